package archive

import (
	"path"
	"strings"
	"unicode/utf8"
)

// clean returns the name of an entry as a path within the folder, or says why it
// is none. "." stands for the folder itself.
func clean(name string) (string, error) {
	switch {
	case !utf8.ValidString(name):
		return "", refuse(name, "is not UTF-8")
	case strings.ContainsAny(name, "\\\x00"):
		return "", refuse(name, "has a backslash or a zero byte in its name")
	case strings.HasPrefix(name, "/"):
		return "", refuse(name, "is an absolute path")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", refuse(name, "leads outside of the folder")
		}
		if len(part) > maxPart {
			return "", refuse(name, "has a part of more than %d bytes", maxPart)
		}
	}
	cleaned := path.Clean(name)
	if len(cleaned) > maxName {
		return "", refuse(name, "is longer than %d bytes", maxName)
	}
	return cleaned, nil
}

// maxHops is how many links a name may lead through, as in Linux.
const maxHops = 40

// checkLink says why a symbolic link may not be in the folder. links are all of
// the folder's links by name: the parts of a target can be links themselves, and
// then ".." does not undo them as it does in text.
func checkLink(links map[string]string, name string) error {
	if t := links[name]; t == "" || len(t) > maxLink || !utf8.ValidString(t) || strings.ContainsRune(t, 0) {
		return refuse(name, "is a link to nothing that can be")
	}
	rest := strings.Split(name, "/")
	var at []string // where the walk is, free of links
	for hops := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return refuse(name, "is a link that leads outside of the folder")
			}
			at = at[:len(at)-1]
			continue
		}
		target, isLink := links[path.Join(path.Join(at...), part)]
		if !isLink {
			at = append(at, part)
			continue
		}
		if hops++; hops > maxHops {
			return refuse(name, "is a link that leads in a circle")
		}
		if strings.HasPrefix(target, "/") {
			return refuse(name, "is a link to the absolute path %q", target)
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return nil
}
