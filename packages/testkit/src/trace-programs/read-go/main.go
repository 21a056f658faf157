// Reads the file that its argument names, with Go's own system calls: no C library.
package main

import (
	"io"
	"os"
)

func main() {
	file, err := os.Open(os.Args[1])
	if err != nil {
		os.Exit(1)
	}
	defer file.Close()
	if _, err := io.Copy(os.Stdout, file); err != nil {
		os.Exit(1)
	}
}
