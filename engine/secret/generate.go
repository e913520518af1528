package secret

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
)

// Classes of characters a Spec can ask for.
const (
	Lower  = "lower"
	Upper  = "upper"
	Digit  = "digit"
	Symbol = "symbol"
)

// Bounds of generated secrets, in characters. The longest is what Windows
// accepts in its own dialogs.
const (
	MinLength     = 12
	MaxLength     = 127
	DefaultLength = 24
)

// symbols are the unreserved ones of RFC 3986: they need no escape in URLs,
// and inside a word they mean nothing to sh, PowerShell, cmd, SQL, XML, JSON,
// YAML, chpasswd and connection strings. At the start of a word some do, hence
// the rule about the first character in Generate.
const symbols = "-_.~"

var alphabets = map[string]string{
	Lower:  "abcdefghijklmnopqrstuvwxyz",
	Upper:  "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
	Digit:  "0123456789",
	Symbol: symbols,
}

// Spec says what a generated secret looks like.
type Spec struct {
	Length  int      // characters; 0: DefaultLength; MinLength to MaxLength
	Classes []string // of Lower, Upper, Digit, Symbol; each occurs at least once; empty: all four
	Exclude string   // characters that must not occur
}

// Generate returns a random secret: every string that has the length, holds
// at least one character of each class and starts with a letter or digit is
// equally likely. An error means that the Spec cannot be met.
func Generate(spec Spec) (Value, error) {
	length := spec.Length
	if length == 0 {
		length = DefaultLength
	}
	if length < MinLength || length > MaxLength {
		return Value{}, fmt.Errorf("secret: length %d is not within %d to %d", length, MinLength, MaxLength)
	}
	classes, err := spec.alphabets()
	if err != nil {
		return Value{}, err
	}
	all := strings.Join(classes, "")
	if strings.Trim(all, symbols) == "" {
		return Value{}, errors.New("secret: symbols alone cannot make a secret: it has to start with a letter or digit")
	}
	for {
		text := pick(all, length)
		if !strings.Contains(symbols, text[:1]) && holdsEach(text, classes) {
			return New(text), nil
		}
	}
}

// NewID returns ten random characters of a-z and 2-7, 50 bits, for account names.
func NewID() string { return pick("abcdefghijklmnopqrstuvwxyz234567", 10) }

// alphabets returns the characters of each class that may occur.
func (s Spec) alphabets() ([]string, error) {
	names := s.Classes
	if len(names) == 0 {
		names = []string{Lower, Upper, Digit, Symbol}
	}
	var sets []string
	seen := map[string]bool{}
	for _, name := range names {
		set, ok := alphabets[name]
		if !ok {
			return nil, fmt.Errorf("secret: unknown class %q; the classes are lower, upper, digit, symbol", name)
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		set = strings.Map(func(r rune) rune {
			if strings.ContainsRune(s.Exclude, r) {
				return -1
			}
			return r
		}, set)
		if set == "" {
			return nil, fmt.Errorf("secret: nothing is left of class %q without the excluded characters", name)
		}
		sets = append(sets, set)
	}
	return sets, nil
}

func holdsEach(text string, classes []string) bool {
	for _, c := range classes {
		if !strings.ContainsAny(text, c) {
			return false
		}
	}
	return true
}

// pick returns length characters of the ASCII alphabet, each equally likely:
// random bytes beyond the largest multiple of its size are thrown away.
func pick(alphabet string, length int) string {
	n := len(alphabet)
	limit := 256 - 256%n
	out := make([]byte, 0, length)
	random := make([]byte, 2*length)
	for {
		_, _ = rand.Read(random) // never fails (crypto/rand)
		for _, b := range random {
			if int(b) >= limit {
				continue
			}
			if out = append(out, alphabet[int(b)%n]); len(out) == length {
				return string(out)
			}
		}
	}
}
