package secret

import (
	"regexp"
	"strings"
	"testing"
)

func TestGeneratedSecretsHoldEachClassAndAreSafeEverywhere(t *testing.T) {
	t.Parallel()
	safe := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]*$`)
	seen := map[string]bool{}
	for range 2000 {
		v, err := Generate(Spec{})
		if err != nil {
			t.Fatal(err)
		}
		s := v.Reveal()
		if len(s) != DefaultLength || !safe.MatchString(s) || seen[s] {
			t.Fatalf("bad secret %q", s)
		}
		seen[s] = true
		for name, set := range alphabets {
			if !strings.ContainsAny(s, set) {
				t.Fatalf("%q has no %s", s, name)
			}
		}
	}
}

func TestGenerateKeepsToItsSpec(t *testing.T) {
	t.Parallel()
	tests := []struct {
		spec Spec
		want string
	}{
		{Spec{Length: 12, Classes: []string{Digit}}, `^[0-9]{12}$`},
		{Spec{Length: 127, Classes: []string{Lower, Lower, Digit}}, `^[a-z0-9]{127}$`},
		{Spec{Length: 12, Classes: []string{Upper, Symbol}, Exclude: "-.~OI"}, `^[A-HJ-NP-Z][A-HJ-NP-Z_]{11}$`},
		{Spec{Length: 12, Classes: []string{Lower, Digit}, Exclude: "123456789"}, `^[a-z0]{12}$`},
	}
	for _, tt := range tests {
		re := regexp.MustCompile(tt.want)
		for range 100 {
			v, err := Generate(tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			if !re.MatchString(v.Reveal()) {
				t.Fatalf("%+v: got %q, want %s", tt.spec, v.Reveal(), tt.want)
			}
		}
	}
}

func TestGenerateRefusesWhatItCannotMeet(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]Spec{
		"short":         {Length: 11},
		"negative":      {Length: -1},
		"long":          {Length: 128},
		"unknown class": {Classes: []string{"emoji"}},
		"emptied class": {Exclude: "0123456789"},
		"only symbols":  {Classes: []string{Symbol}},
	} {
		if v, err := Generate(spec); err == nil || !v.IsZero() {
			t.Errorf("%s: got a secret (error %v)", name, err)
		}
	}
}

// Chi-squared over 62 characters; a modulo of 256 would give the first eight a
// quarter more and a statistic in the thousands.
func TestPickIsUniform(t *testing.T) {
	t.Parallel()
	alphabet := alphabets[Lower] + alphabets[Upper] + alphabets[Digit]
	const draws = 620_000
	counts := map[byte]float64{}
	for _, c := range []byte(pick(alphabet, draws)) {
		counts[c]++
	}
	want := float64(draws) / float64(len(alphabet))
	chi := 0.0
	for i := range len(alphabet) {
		off := counts[alphabet[i]] - want
		chi += off * off / want
	}
	if chi > 150 { // 61 degrees of freedom: one in 10^9
		t.Errorf("chi squared %.0f", chi)
	}
}

func TestNewIDIsTenBase32Characters(t *testing.T) {
	t.Parallel()
	re := regexp.MustCompile(`^[a-z2-7]{10}$`)
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		if !re.MatchString(id) || seen[id] {
			t.Fatalf("bad id %q", id)
		}
		seen[id] = true
	}
}
