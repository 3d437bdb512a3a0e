//! Decides whether a formula in conjunctive normal form can be true, and by which assignment.
//!
//!     sat < formula.cnf
//!
//! Reads the DIMACS form and answers in its solvers' form: `s SATISFIABLE` and the assignment in lines
//! that begin with `v` (exit code 10), or `s UNSATISFIABLE` (exit code 20). It splits on a variable
//! (Davis, Putnam, Logemann, Loveland) and follows clauses with one literal left at once.

use std::io::{self, Read, Write};
use std::process::exit;

struct Solver {
    clauses: Vec<Vec<i32>>,
    /// For each literal the clauses that hold it.
    places: Vec<Vec<usize>>,
    /// For each variable: 0 unknown, else 1 or -1.
    values: Vec<i8>,
    trail: Vec<i32>,
}

fn index(literal: i32) -> usize {
    2 * literal.unsigned_abs() as usize + (literal < 0) as usize
}

impl Solver {
    fn new(variables: usize, clauses: Vec<Vec<i32>>) -> Solver {
        let mut places = vec![Vec::new(); 2 * variables + 2];
        for (at, clause) in clauses.iter().enumerate() {
            for &literal in clause {
                places[index(literal)].push(at);
            }
        }
        Solver { clauses, places, values: vec![0; variables + 1], trail: Vec::new() }
    }

    fn value(&self, literal: i32) -> i8 {
        let value = self.values[literal.unsigned_abs() as usize];
        if literal < 0 { -value } else { value }
    }

    /// Make a literal true, with all that follows from it; false if that contradicts a clause.
    fn assign(&mut self, literal: i32) -> bool {
        let mut next = self.trail.len();
        if !self.set(literal) {
            return false;
        }
        while next < self.trail.len() {
            let falsified = -self.trail[next];
            next += 1;
            for at in self.places[index(falsified)].clone() {
                let mut left = None;
                let mut open = 0;
                let mut satisfied = false;
                for &other in &self.clauses[at] {
                    match self.value(other) {
                        1 => satisfied = true,
                        0 => {
                            open += 1;
                            left = Some(other);
                        }
                        _ => {}
                    }
                }
                match left {
                    _ if satisfied => {}
                    None => return false,
                    Some(other) if open == 1 => {
                        self.set(other);
                    }
                    Some(_) => {}
                }
            }
        }
        true
    }

    fn set(&mut self, literal: i32) -> bool {
        match self.value(literal) {
            0 => {
                self.values[literal.unsigned_abs() as usize] = literal.signum() as i8;
                self.trail.push(literal);
                true
            }
            value => value == 1,
        }
    }

    fn undo(&mut self, length: usize) {
        for literal in self.trail.drain(length..) {
            self.values[literal.unsigned_abs() as usize] = 0;
        }
    }

    /// The unknown literal that the most clauses hold.
    fn choose(&self) -> Option<i32> {
        (1..self.values.len() as i32)
            .filter(|&variable| self.values[variable as usize] == 0)
            .flat_map(|variable| [variable, -variable])
            .max_by_key(|&literal| (self.places[index(literal)].len(), -literal.abs(), literal))
    }

    fn solve(&mut self) -> bool {
        let literal = match self.choose() {
            Some(literal) => literal,
            None => return true,
        };
        for choice in [literal, -literal] {
            let length = self.trail.len();
            if self.assign(choice) && self.solve() {
                return true;
            }
            self.undo(length);
        }
        false
    }
}

fn fail(words: &str) -> ! {
    eprintln!("sat: {}", words);
    exit(1)
}

fn parse(text: &str) -> (usize, Vec<Vec<i32>>) {
    let mut variables = 0;
    let mut clauses = Vec::new();
    let mut clause = Vec::new();
    for line in text.lines() {
        match line.split_whitespace().next() {
            None | Some("c") => continue,
            Some("%") => break,
            Some("p") => {
                let count = line.split_whitespace().nth(2).and_then(|word| word.parse().ok());
                variables = count.unwrap_or_else(|| fail("the line \"p cnf\" has no counts"));
                continue;
            }
            Some(_) => {}
        }
        for word in line.split_whitespace() {
            match word.parse::<i32>() {
                Ok(0) => clauses.push(std::mem::take(&mut clause)),
                Ok(literal) if literal.unsigned_abs() as usize <= variables => clause.push(literal),
                _ => fail(&format!("{:?} is no literal of the formula", word)),
            }
        }
    }
    (variables, clauses)
}

fn main() {
    let mut text = String::new();
    if io::stdin().read_to_string(&mut text).is_err() {
        fail("the input is no text");
    }
    let (variables, clauses) = parse(&text);
    let empty = clauses.iter().any(|clause| clause.is_empty());
    let units: Vec<i32> = clauses.iter().filter(|c| c.len() == 1).map(|c| c[0]).collect();
    let mut solver = Solver::new(variables, clauses);
    if empty || !units.into_iter().all(|unit| solver.assign(unit)) || !solver.solve() {
        println!("s UNSATISFIABLE");
        exit(20);
    }
    let mut words = String::from("s SATISFIABLE\n");
    for variable in 1..=variables as i32 {
        let sign = if solver.values[variable as usize] < 0 { -1 } else { 1 };
        words += &format!("v {}\n", sign * variable);
    }
    words += "v 0\n";
    let _ = io::stdout().write_all(words.as_bytes());
    exit(10);
}
