// Aligns two texts: the fewest insertions, deletions and replacements that turn one into the other.
//
//	align FIRST SECOND
//
// FIRST and SECOND are files of lines, as --file gives them. Prints the distance in lines, and the
// lines with "-" (only in the first), "+" (only in the second) or "~" (replaced) before them.
package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

func lines(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		os.Stderr.WriteString("align: " + err.Error() + "\n")
		os.Exit(1)
	}
	text := strings.TrimSuffix(string(data), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// distances returns a table: at [i][j] what it takes to turn a[i:] into b[j:].
func distances(a, b []string) [][]int32 {
	table := make([][]int32, len(a)+1)
	for i := range table {
		table[i] = make([]int32, len(b)+1)
	}
	for i := len(a); i >= 0; i-- {
		for j := len(b); j >= 0; j-- {
			switch {
			case i == len(a):
				table[i][j] = int32(len(b) - j)
			case j == len(b):
				table[i][j] = int32(len(a) - i)
			case a[i] == b[j]:
				table[i][j] = table[i+1][j+1]
			default:
				table[i][j] = 1 + min(table[i+1][j+1], table[i+1][j], table[i][j+1])
			}
		}
	}
	return table
}

func main() {
	if len(os.Args) != 3 {
		os.Stderr.WriteString("usage: align FIRST SECOND\n")
		os.Exit(2)
	}
	a, b := lines(os.Args[1]), lines(os.Args[2])
	table := distances(a, b)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	out.WriteString(strconv.Itoa(int(table[0][0])) + "\n")
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out.WriteString("  " + a[i] + "\n")
			i, j = i+1, j+1
		case i < len(a) && table[i][j] == 1+table[i+1][j]:
			out.WriteString("- " + a[i] + "\n")
			i++
		case j < len(b) && table[i][j] == 1+table[i][j+1]:
			out.WriteString("+ " + b[j] + "\n")
			j++
		default:
			out.WriteString("~ " + a[i] + "\n+ " + b[j] + "\n")
			i, j = i+1, j+1
		}
	}
}
