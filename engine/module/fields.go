package module

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"runner/engine/lang"
)

var (
	ownName   = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	knownName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.@-]{0,63}$`)
	listOf    = lang.ListOf(lang.String)
)

// statePresent is the argument that says whether a thing should be there.
func statePresent(doc string) Field {
	return Field{Name: "state", Type: lang.String, Default: "present", Enum: []string{"present", "absent"}, Doc: doc, Example: "absent"}
}

// has reports whether an argument is known and not empty.
func has(a Args, name string) bool {
	switch v := a[name].(type) {
	case nil:
		return false
	case string:
		return v != ""
	case int64:
		return v != 0
	}
	return true
}

// first returns the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkName refuses names of accounts that are not ours to create.
func checkName(a Args, arg string) error {
	if n := a.String(arg); has(a, arg) && !ownName.MatchString(n) {
		return fmt.Errorf("%s %q is no account name; one has at most 32 lower-case letters, digits, underscores and hyphens, the first a letter or an underscore%s", arg, n, tooLong(n, 32))
	}
	return nil
}

// tooLong says how long a name is that is longer than it may be.
func tooLong(name string, limit int) string {
	if n := utf8.RuneCountInString(name); n > limit {
		return fmt.Sprintf("; this has %d characters", n)
	}
	return ""
}

// checkKnown refuses names that no account or group can have.
func checkKnown(a Args, arg string) error {
	if n := a.String(arg); has(a, arg) && !knownName.MatchString(n) {
		return fmt.Errorf("%s %q is no name of an account or group; one has at most 64 letters, digits, dots, underscores, hyphens and @, the first a letter or an underscore%s", arg, n, tooLong(n, 64))
	}
	return nil
}

// checkLine refuses values with line breaks.
func checkLine(a Args, args ...string) error {
	for _, arg := range args {
		if strings.ContainsAny(a.String(arg), "\n\x00") {
			return fmt.Errorf("%s must be one line", arg)
		}
	}
	return nil
}

// checkPath refuses paths that are not absolute or climb.
func checkPath(a Args, arg string) error {
	if !has(a, arg) {
		return nil
	}
	return absolute(arg, a.String(arg))
}

func absolute(arg, p string) error {
	if !strings.HasPrefix(p, "/") || strings.Contains(p+"/", "/../") || strings.Contains(p+"/", "/./") || strings.ContainsAny(p, "\n\x00") {
		return fmt.Errorf("%s %q must be an absolute path that holds neither . nor .. as a part", arg, p)
	}
	return nil
}

// checkTime refuses what is neither a time in UTC nor one of words.
func checkTime(a Args, arg string, words ...string) error {
	s, is := a[arg].(string)
	if !is || s == "" {
		return nil
	}
	if slices.Contains(words, s) {
		return nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil && at.Equal(at.UTC()) && strings.HasSuffix(s, "Z") {
		return nil
	}
	if _, err := time.Parse(time.DateOnly, s); err == nil {
		return nil
	}
	return fmt.Errorf("%s %q must be a time in UTC such as 2026-11-21T12:00:00Z, or %s", arg, s, strings.Join(words, " or "))
}

// checkUID refuses negative numbers.
func checkUID(a Args, arg string) error {
	if n := a.Int(arg); n < 0 || n > 4294967294 {
		return errors.New(arg + " must be between 0 and 4294967294")
	}
	return nil
}

// checkMode refuses what is no octal file mode.
func checkMode(a Args, arg string) error {
	if m := a.String(arg); m != "" && !regexp.MustCompile(`^[0-7]{3,4}$`).MatchString(m) {
		return fmt.Errorf("%s %q must be an octal mode in quotes, such as \"0640\"", arg, m)
	}
	return nil
}
