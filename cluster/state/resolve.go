package state

import "strings"

// Resolve finds the version that an invocation goes to. An empty qualifier means
// Live; otherwise it is Latest, a number, or an alias. pick, in [0, 1), chooses
// within a weighted pair: the same pick gives the same version. Resolve does not
// allocate, also when it refuses with ErrNoFunction, ErrNoVersion or ErrNoAlias.
func (v *View) Resolve(app AppName, name FunctionName, qualifier string, pick float64) (*Version, error) {
	f := v.Function(app, name)
	if f == nil {
		return nil, ErrNoFunction
	}
	if qualifier == Latest {
		return f.Newest(), nil
	}
	// Digits can be nothing but a number, because CheckAliasName refuses them.
	if n, ok := parseNumber(qualifier); ok {
		if ver := f.Version(n); ver != nil {
			return ver, nil
		}
		return nil, ErrNoVersion
	}
	alias := AliasName(qualifier)
	if qualifier == "" {
		alias = Live
	}
	a := f.Alias(alias)
	if a == nil {
		return nil, ErrNoAlias
	}
	// No alias names a version that is gone: deletion and pruning see to it.
	return f.Version(a.pick(pick)), nil
}

// pick returns the version of the pair for a number in [0, 1).
func (a *Alias) pick(pick float64) VersionNumber {
	if a.Other != 0 && pick < a.OtherWeight {
		return a.Other
	}
	return a.Version
}

// parseNumber reads a version number. Only digits count as one, so an alias may
// not consist of digits alone. A number too great for any version is still a
// number, and no version has it.
func parseNumber(s string) (VersionNumber, bool) {
	if s == "" {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 {
			return 0, false
		}
		// Beyond this it only has to stay greater than any version.
		if n < 1<<60 {
			n = n*10 + uint64(d)
		}
	}
	return VersionNumber(n), true
}

// SplitName reads the user's form of a function: "[APP/]NAME[:QUALIFIER]".
// Without an app the default one is meant.
func SplitName(s string) (app AppName, name FunctionName, qualifier string) {
	app = DefaultApp
	if a, rest, ok := strings.Cut(s, "/"); ok {
		app, s = AppName(a), rest
	}
	s, qualifier, _ = strings.Cut(s, ":")
	return app, FunctionName(s), qualifier
}
