package stdio

import (
	"errors"
	"strings"
)

// Words splits a handler into the program and its arguments, as a shell would split a line without variables,
// patterns and redirections: blanks separate words; within '…' everything stands for itself; within "…" a backslash
// takes the meaning off a quote or a backslash, and elsewhere off any character. Quotes with nothing in them
// make an empty word.
func Words(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun := false // a word has begun, though it may be empty
	var quote rune // the quote that is open, or 0
	escaped := false
	for _, c := range s {
		switch {
		case escaped:
			if quote == '"' && c != '"' && c != '\\' {
				word.WriteByte('\\')
			}
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, begun = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	switch {
	case quote != 0:
		return nil, errors.New("a quote is not closed")
	case escaped:
		return nil, errors.New("a backslash stands at the end")
	case begun:
		words = append(words, word.String())
	}
	return words, nil
}
