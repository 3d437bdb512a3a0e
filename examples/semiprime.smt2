; Which two numbers, neither of them 1, give 12 787 751 when multiplied? Bit vectors wide enough that
; nothing overflows; the solver answers with a model.
(set-logic QF_BV)
(set-option :produce-models true)
(declare-fun p () (_ BitVec 12))
(declare-fun q () (_ BitVec 12))
(assert (= (bvmul ((_ zero_extend 12) p) ((_ zero_extend 12) q)) (_ bv12787751 24)))
(assert (bvule p q))
(check-sat)
(get-model)
