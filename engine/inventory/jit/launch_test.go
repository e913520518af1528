package jit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"runner/engine/lang"
)

// golden compares got with a file; UPDATE=1 rewrites it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; UPDATE=1 rewrites it):\n%s", path, diff)
	}
}

var flags = []bool{false, true}

// everyRecord calls f with every kind of record there is.
func everyRecord(f func(r Record, words string)) {
	settings := []struct {
		word    string
		s       Settings
		missing string
	}{
		{"none", Settings{}, ""},
		{"ephemeral", Settings{CreateEphemeral: true, AccountType: Linux}, ""},
		{"elevation", Settings{Elevate: true, Method: Group, Elevation: "adm"}, ""},
		{"both", Settings{CreateEphemeral: true, Elevate: true, Method: Sudo, Elevation: "ALL"}, ""},
		{"domain", Settings{CreateEphemeral: true, AccountType: Domain, Directory: "ad"}, ""},
		{"domain-unbound", Settings{CreateEphemeral: true, AccountType: Domain}, ""},
		{"mac", Settings{CreateEphemeral: true, AccountType: Mac}, "no template"},
	}
	for _, s := range settings {
		for _, policy := range []string{OptIn, Required} {
			for _, host := range flags {
				for _, user := range flags {
					for _, linked := range flags {
						r := Record{Name: "web", Settings: s.s, Policy: policy, SupplyHost: host, SupplyUser: user, Missing: s.missing}
						if linked {
							r.Linked, r.LinkedUID = "web-root", "uid-1"
						}
						words := s.word + " " + policy
						words += " " + onOff("host", host) + " " + onOff("user", user) + " " + onOff("linked", linked)
						f(r, words)
					}
				}
			}
		}
	}
}

func onOff(word string, is bool) string {
	if is {
		return word
	}
	return strings.Repeat("-", len(word))
}

// everyAsk calls f with every combination of flags.
func everyAsk(f func(a Asked, words string)) {
	for i := range 16 {
		var a Asked
		a.JIT = i&8 > 0
		words := onOff("-j", a.JIT)
		for bit, flag := range []struct {
			name string
			to   *string
		}{{"-hr", &a.HostRecord}, {"-H", &a.Host}, {"-cr", &a.Credential}} {
			if i&(1<<bit) > 0 {
				*flag.to = "x"
			}
			words += " " + onOff(flag.name, i&(1<<bit) > 0)
		}
		f(a, words)
	}
}

// Every combination of flags, settings and credentials has its way or its
// refusal, and each is in the file with its exact words.
func TestEveryCombinationHasAWayOrARefusal(t *testing.T) {
	t.Parallel()
	var lines []string
	numbers := map[string]int{}
	var refusals []string
	everyRecord(func(r Record, record string) {
		everyAsk(func(a Asked, ask string) {
			way, err := Decide(r, a)
			out := string(way)
			if err != nil {
				var refused *RefusedError
				if !errors.As(err, &refused) || refused.Reason == "" || refused.Change == "" || way != "" {
					t.Errorf("%s, %s: %v, %q", record, ask, err, way)
					return
				}
				text := fmt.Sprintf("record=%v %v", refused.Record, err)
				if numbers[text] == 0 {
					numbers[text] = len(numbers) + 1
					refusals = append(refusals, fmt.Sprintf("R%d %s", numbers[text], text))
				}
				out = fmt.Sprintf("R%d", numbers[text])
			}
			lines = append(lines, fmt.Sprintf("%-45s %-14s %s", record, ask, out))
		})
	})
	golden(t, filepath.Join("testdata", "decide.out"), strings.Join(append(append(refusals, ""), lines...), "\n")+"\n")
}

// The rules as the issue tells them, held against every combination.
func TestTheFirstWayThatCanBeTakenIsTaken(t *testing.T) {
	t.Parallel()
	everyRecord(func(r Record, record string) {
		everyAsk(func(a Asked, ask string) {
			way, err := Decide(r, a)
			supplies := a.Credential != "" || a.Host != "" || a.HostRecord != ""
			says := func(format string, args ...any) {
				t.Helper()
				t.Errorf("%s, %s: %q, %v: %s", record, ask, way, err, fmt.Sprintf(format, args...))
			}
			switch {
			case a.JIT && (r.SupplyHost || supplies || r.Settings.Mode() == None) && err == nil:
				says("-j cannot be here")
			case a.JIT && err == nil && way != JustInTime:
				says("-j was asked for")
			case !a.JIT && r.Policy == OptIn && way == JustInTime:
				says("nobody asked for it")
			case way == SuppliedHost && (!r.SupplyHost || a.Host == "" && a.HostRecord == ""):
				says("no host may be supplied, or none is")
			case way == SuppliedUser && (a.Credential == "" || !r.SupplyUser && !r.SupplyHost):
				says("no user may be supplied, or none is")
			case way == LinkedUser && (supplies || r.Linked == ""):
				says("another account is meant, or none is linked")
			case way == JustInTime && r.Settings.Mode() == Elevation && r.Linked == "":
				says("there is nobody to elevate")
			case way == JustInTime && r.Settings.AccountType == Domain && r.Settings.Directory == "":
				says("of which domain?")
			case way == JustInTime && r.Missing != "":
				says("nothing carries it out")
			}
		})
	})
}

func TestAPlanSaysOnlyWhatBelongsToItsMode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"", "x", "adm,wheel"})
		r := Record{LinkedUID: "uid-1", Settings: Settings{
			CreateEphemeral: rapid.Bool().Draw(t, "create"), AccountType: text.Draw(t, "type"), BaseDN: text.Draw(t, "dn"), Directory: text.Draw(t, "directory"),
			Elevate: rapid.Bool().Draw(t, "elevate"), Method: text.Draw(t, "method"), Elevation: text.Draw(t, "elevation"), Other: []string{"rotate"},
		}}
		if r.Settings.Mode() == None {
			return
		}
		plain, err := json.Marshal(r.Plan(JustInTime))
		if err != nil {
			t.Fatal(err)
		}
		var said map[string]any
		if err := json.Unmarshal(plain, &said); err != nil {
			t.Fatal(err)
		}
		settings, _ := said["jitSettings"].(map[string]any)
		elevation, _ := said["jitElevation"].(map[string]any)
		if (said["credentialType"] == "linked") != (r.Settings.Mode() == Elevation) || (said["userRecordUid"] != nil) != (r.Settings.Mode() == Elevation) {
			t.Fatalf("credential: %s", plain)
		}
		if (settings != nil) != r.Settings.CreateEphemeral || (elevation != nil) != r.Settings.Elevate {
			t.Fatalf("halves: %s", plain)
		}
		check := func(half map[string]any, keys []string) {
			for k, v := range half {
				if !slices.Contains(keys, k) || v == "" || v == nil || v == false {
					t.Fatalf("%s is %v: %s", k, v, plain)
				}
			}
		}
		check(settings, ephemeralKeys)
		check(elevation, elevationKeys)
	})
}

func TestOtherWaysAreSaidToo(t *testing.T) {
	t.Parallel()
	r := Record{LinkedUID: "uid-1", Settings: Settings{CreateEphemeral: true}}
	for way, want := range map[Way]Sent{
		LinkedUser: {CredentialType: "linked", UserRecordUID: "uid-1"}, SuppliedHost: {CredentialType: "userSupplied"}, SuppliedUser: {CredentialType: "userSupplied"},
	} {
		if diff := cmp.Diff(want, r.Plan(way)); diff != "" {
			t.Errorf("%s: %s", way, diff)
		}
	}
}

func TestWhatCarriesSettingsOut(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, platform := range []string{Linux, Windows} {
		for _, typ := range []string{"", Local, Linux, Windows, Mac, Domain} {
			b.WriteString(useLine(Settings{CreateEphemeral: true, AccountType: typ}, platform, Slots{}))
		}
		for _, method := range []string{"", Group, Sudo, Role} {
			for _, value := range []string{"", "adm, wheel,adm", "ALL", "/usr/bin/id, /bin/ls -l"} {
				for _, create := range flags {
					b.WriteString(useLine(Settings{CreateEphemeral: create, Elevate: true, Method: method, Elevation: value}, platform, Slots{}))
				}
			}
		}
		both := Settings{CreateEphemeral: true, AccountType: Mac, Elevate: true, Method: Role}
		for _, own := range []Slots{{Create: true}, {Elevate: true}, {Create: true, Elevate: true}} {
			b.WriteString(useLine(both, platform, own))
		}
		both.Method, both.Elevation = Group, "adm"
		b.WriteString(useLine(both, platform, Slots{Create: true}))
	}
	golden(t, filepath.Join("testdata", "use.out"), b.String())
}

func useLine(s Settings, platform string, own Slots) string {
	u := s.Templates(platform, own)
	return fmt.Sprintf("%s create=%v/%q elevate=%v/%q/%q own=%v\n  -> create %q elevate %q params %v missing %q\n",
		platform, s.CreateEphemeral, s.AccountType, s.Elevate, s.Method, s.Elevation, own, u.Create, u.Elevate, u.Params, u.Missing)
}

// The patterns for editors take what reading takes.
func TestAnyCaseOfAWordFitsItsPattern(t *testing.T) {
	t.Parallel()
	for _, table := range Tables() {
		for _, k := range table.Keys {
			if k.Is.Kind == lang.TextShape && k.Is.Pattern == "" && len(k.Is.Words) > 0 {
				t.Errorf("%s.%s: words without a pattern are of one case", table.Name, k.Name)
			}
		}
	}
	if got := anyCase("a", "bc"); got != "^([Aa]|[Bb][Cc])$" {
		t.Error(got)
	}
}
