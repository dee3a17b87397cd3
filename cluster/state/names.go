package state

import (
	"errors"
	"fmt"
	"strings"
)

// CheckFunctionName says what is wrong with a function's name: it must fit
// Lambda's pattern and be usable as one label of a host name or path.
func CheckFunctionName(name FunctionName) error {
	if !isName(string(name), isWordByte) {
		return fmt.Errorf("function name %q: want 1 to %d letters, digits, '-' or '_', with a letter or digit at both ends",
			clip(string(name)), maxName)
	}
	return nil
}

// CheckAppName says what is wrong with an app's name: it must be a DNS label.
func CheckAppName(name AppName) error {
	if !isName(string(name), func(c byte) bool { return c == '-' || isDigit(c) || isLower(c) }) {
		return fmt.Errorf("app name %q: want 1 to %d lower-case letters, digits or '-', with a letter or digit at both ends",
			clip(string(name)), maxName)
	}
	return nil
}

// CheckAliasName says what is wrong with an alias' name. Digits alone would be
// a version number.
func CheckAliasName(name AliasName) error {
	s := string(name)
	_, number := parseNumber(s)
	if number || !isWord(s, maxAlias) {
		return fmt.Errorf("alias %q: want 1 to %d letters, digits, '-' or '_', not digits alone", clip(s), maxAlias)
	}
	return nil
}

func checkApp(name string) error { return CheckAppName(AppName(name)) }

// checkFunctionKey reports both names if both are wrong.
func checkFunctionKey(app, name string) error {
	return errors.Join(checkApp(app), CheckFunctionName(FunctionName(name)))
}

// checkID accepts UUIDs and ULIDs, and whatever else is safe in a key or path.
func checkID(field, id string) error {
	if !isWord(id, maxID) {
		return fmt.Errorf("%s %q: want 1 to %d letters, digits, '-' or '_'", field, clip(id), maxID)
	}
	return nil
}

// isName reports whether all bytes are allowed and both ends are a letter or
// digit.
func isName(s string, allowed func(byte) bool) bool {
	if s == "" || len(s) > maxName || !isAlnum(s[0]) || !isAlnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return true
}

// isWord is Lambda's pattern [a-zA-Z0-9-_]+ up to a length.
func isWord(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if !isWordByte(s[i]) {
			return false
		}
	}
	return true
}

// isEnvName is what every shell and runtime can set and read.
func isEnvName(s string) bool {
	if s == "" || isDigit(s[0]) {
		return false
	}
	for i := range len(s) {
		if s[i] == '-' || !isWordByte(s[i]) {
			return false
		}
	}
	return true
}

// isDigest reports whether s is 64 lower-case hexadecimal digits, with or
// without the algorithm before them.
func isDigest(s string) bool {
	s = strings.TrimPrefix(s, "sha256:")
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if !isDigit(s[i]) && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return true
}

// Bytes, not runes: every allowed name is ASCII, so a byte of anything else is
// refused by itself.
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isLower(c byte) bool { return c >= 'a' && c <= 'z' }

func isAlnum(c byte) bool { return isDigit(c) || isLower(c) || (c >= 'A' && c <= 'Z') }

func isWordByte(c byte) bool { return isAlnum(c) || c == '-' || c == '_' }

// clip keeps a message readable, and small in every replica's window of
// outcomes, when the name in it is not.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
