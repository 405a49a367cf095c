// SPDX-License-Identifier: Apache-2.0

// Command termsvg draws what it reads as a terminal window, for the README:
//
//	script output | go run ./hack/termsvg TITLE > docs/demo.svg
//
// Lines that begin with "$ " are shown as commands.
package main

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"unicode/utf8"
)

const (
	cellWidth  = 8.4
	lineHeight = 19
	margin     = 16
	bar        = 34
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: termsvg TITLE < text > picture.svg")
	}
	if err := draw(os.Stdin, os.Stdout, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func draw(in io.Reader, out io.Writer, title string) error {
	var lines []string
	columns := 0
	scanner := bufio.NewScanner(in)
	for scanner.Scan() {
		line := strings.TrimRight(scanner.Text(), " ")
		lines = append(lines, line)
		columns = max(columns, utf8.RuneCountInString(line))
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("reading text: %w", err)
	}
	width, height := float64(columns)*cellWidth+2*margin, len(lines)*lineHeight+bar+margin
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" role="img" aria-label="%s">`+"\n", width, height, escape(title))
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" rx="8" fill="#161b22"/>`+"\n")
	for i, color := range []string{"#ff5f56", "#ffbd2e", "#27c93f"} {
		fmt.Fprintf(w, `<circle cx="%d" cy="17" r="6" fill="%s"/>`+"\n", 20+20*i, color)
	}
	fmt.Fprintf(w, `<g font-family="ui-monospace,Menlo,Consolas,monospace" font-size="14" fill="#c9d1d9" xml:space="preserve">`+"\n")
	fmt.Fprintf(w, `<text x="%.0f" y="22" text-anchor="middle" fill="#8b949e">%s</text>`+"\n", width/2, escape(title))
	for i, line := range lines {
		fmt.Fprintf(w, `<text x="%d" y="%d"%s>%s</text>`+"\n", margin, bar+(i+1)*lineHeight-4, style(line), escape(line))
	}
	fmt.Fprintln(w, "</g>\n</svg>")
	return w.Flush()
}

// style makes commands green and headers bold.
func style(line string) string {
	switch {
	case strings.HasPrefix(line, "$ "):
		return ` fill="#7ee787"`
	case line != "" && strings.ToUpper(line) == line && strings.Contains(line, "  "):
		return ` font-weight="bold"`
	}
	return ""
}

func escape(text string) string {
	var b strings.Builder
	// Writing to a strings.Builder doesn't fail.
	_ = xml.EscapeText(&b, []byte(text))
	return b.String()
}
