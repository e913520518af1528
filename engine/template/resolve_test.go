package template

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"runner/engine/lang"
	"runner/engine/secret"
)

const paramsText = `schema: runner/v1
kind: create
name: x
platform: linux
removal: x
params:
  username: {type: string, pattern: '[a-z]+', default: '{{ grant.account }}', description: login name}
  home: {type: path, default: '/home/{{ params.username }}'}
  quota: {type: int, min: 1, max: 10, default: 5}
  ratio: {type: float, default: 0.5}
  keep: {type: bool, default: false}
  grace: {type: duration, default: 5s}
  until: {type: time, default: '{{ grant.expires_at }}'}
  groups: {type: list, max: 2, default: [adm]}
  ports: {type: list, of: int, optional: true}
  labels: {type: map, optional: true}
  policy: {type: enum, enum: [keep, delete], default: keep}
  password: {type: secret, generate: {length: 12, classes: [digit]}}
  key: {type: string, optional: true, pattern: 'ssh-.*'}
  must: {type: string}
steps:
  - name: Make
    user: {name: "{{ params.username }}"}
`

var expires = time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)

func grantEnv() lang.Env {
	return lang.Env{"grant": map[string]any{
		"id": "g-1", "account": "jitabc", "requester": "alice", "credential": "c", "reason": "", "uid": int64(70000),
		"expires_at": expires, "backstop_at": expires, "requested_at": expires,
	}}
}

func loaded(t *testing.T, text string) *Template {
	t.Helper()
	tmpl, ps := Load("x.yaml", []byte(text), registry(t))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	return tmpl
}

// made is a generator whose secrets say how they were made.
func made(g Generate) (secret.Value, error) {
	return secret.New(strings.Join(g.Classes, "+") + strings.Repeat("x", g.Length)), nil
}

// revealed turns secrets into text so that values can be compared.
func revealed(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		if s, ok := v.(secret.Value); ok {
			v = "secret " + s.Reveal()
		}
		out[k] = v
	}
	return out
}

func TestParamsComeFromTheDefaultsOfTheTemplate(t *testing.T) {
	t.Parallel()
	got, err := loaded(t, paramsText).Resolve(nil, map[string]any{"must": "x"}, grantEnv(), made)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"username": "jitabc", "home": "/home/jitabc", "quota": int64(5), "ratio": 0.5, "keep": false,
		"grace": 5 * time.Second, "until": expires, "groups": []string{"adm"}, "ports": []any{}, "labels": map[string]any{},
		"policy": "keep", "password": "secret digitxxxxxxxxxxxx", "key": "", "must": "x",
	}
	if diff := cmp.Diff(want, revealed(got)); diff != "" {
		t.Error(diff)
	}
}

func TestARequestBeatsACredentialWhichBeatsATemplate(t *testing.T) {
	t.Parallel()
	defaults := map[string]*lang.Value{
		"quota":  lang.Constant(int64(6)),
		"policy": lang.Constant("delete"),
		"must":   lang.Constant("credential"),
		"groups": lang.Constant([]any{"wheel"}),
		"other":  lang.Constant("of the delete template"),
	}
	given := map[string]any{"quota": "7", "home": "/srv"}
	got, err := loaded(t, paramsText).Resolve(defaults, given, grantEnv(), made)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"quota": int64(7), "policy": "delete", "must": "credential", "home": "/srv", "username": "jitabc", "groups": []string{"wheel"}} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, ok := got["other"]; ok {
		t.Error("a param of another template was taken over")
	}
	if len(given) != 2 || len(defaults) != 5 {
		t.Error("the caller's maps were changed")
	}
}

func TestTextsOfACommandLineAreReadAsTheTypeOfTheParam(t *testing.T) {
	t.Parallel()
	given := map[string]any{
		"quota": "9", "ratio": "2.5", "keep": "true", "grace": "2m", "until": "2026-12-01T00:00:00Z",
		"groups": "a,b", "password": "canary", "must": "42",
	}
	got, err := loaded(t, paramsText).Resolve(nil, given, grantEnv(), made)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"quota": int64(9), "ratio": 2.5, "keep": true, "grace": 2 * time.Minute, "until": time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
		"groups": []string{"a", "b"}, "password": "secret canary", "must": "42",
	} {
		if diff := cmp.Diff(want, revealed(got)[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestValuesOfJSONAreReadAsTheTypeOfTheParam(t *testing.T) {
	t.Parallel()
	var given map[string]any
	text := `{"quota": 9, "ratio": 2, "keep": true, "groups": ["a"], "ports": [22, "80"], "labels": {"a": 1}, "must": "x", "key": null}`
	if err := json.Unmarshal([]byte(text), &given); err != nil {
		t.Fatal(err)
	}
	got, err := loaded(t, paramsText).Resolve(nil, given, grantEnv(), made)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"quota": int64(9), "ratio": 2.0, "keep": true, "groups": []string{"a"}, "ports": []any{int64(22), int64(80)},
		"labels": map[string]any{"a": 1.0}, "key": "",
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAllThatIsWrongWithParamsIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	given := map[string]any{
		"usernam": "x", "username": "Bob!", "home": "../etc", "quota": "11", "ratio": "much", "keep": "maybe", "grace": "5",
		"until": "tomorrow", "groups": []any{"a", "b", "c"}, "ports": []any{22.5}, "policy": "deleted", "key": "rsa", "labels": "x",
		"password": []any{"canary"},
	}
	out, err := loaded(t, paramsText).Resolve(nil, given, grantEnv(), made)
	if out != nil {
		t.Error("values were returned beside an error")
	}
	pe, ok := errors.AsType[*ParamsError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, p := range pe.Problems {
		got = append(got, p.Message)
	}
	want := []string{
		`there is no param "usernam"; did you mean "username"?`,
		`param "username" is "Bob!", which does not match [a-z]+`,
		`param "home" is "../etc"; it must be an absolute path without ..`,
		`param "quota" is 11; from 1 to 10 are possible`,
		`param "ratio" is "much"; give a float`,
		`param "keep" is "maybe"; give true or false`,
		`param "grace" is "5"; give a duration such as 90s or 1h`,
		`param "until" is "tomorrow"; give a time such as 2026-01-31T18:00:00Z`,
		`param "groups" has 3 entries; at most 2`,
		`param "ports" has a wrong entry: number 1 is 22.5; give a list of int`,
		`param "labels" is "x"; give a map`,
		`param "policy" is "deleted"; it must be keep or delete; did you mean "delete"?`,
		`param "password" is not a string; give a secret`,
		`param "key" is "rsa", which does not match ssh-.*`,
		`param "must" is missing; give a string`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(err.Error(), "canary") {
		t.Error("an error shows a secret")
	}
}

func TestOneWrongParamIsOneLine(t *testing.T) {
	t.Parallel()
	_, err := loaded(t, paramsText).Resolve(nil, nil, grantEnv(), made)
	if want := `template create/x: param "must" is missing; give a string`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestASecretThatStandsInACredentialIsRefused(t *testing.T) {
	t.Parallel()
	defaults := map[string]*lang.Value{"password": lang.Constant("canary"), "must": lang.Constant("x")}
	_, err := loaded(t, paramsText).Resolve(defaults, nil, grantEnv(), made)
	if err == nil || !strings.Contains(err.Error(), "stands in the credential in clear") || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreMadeOnlyWhenNobodyGaveThem(t *testing.T) {
	t.Parallel()
	tmpl := loaded(t, paramsText)
	fail := func(Generate) (secret.Value, error) { return secret.Value{}, errors.New("no entropy") }
	if _, err := tmpl.Resolve(nil, map[string]any{"must": "x", "password": "given"}, grantEnv(), fail); err != nil {
		t.Error(err)
	}
	if _, err := tmpl.Resolve(nil, map[string]any{"must": "x"}, grantEnv(), fail); err == nil || !strings.Contains(err.Error(), "no entropy") {
		t.Errorf("got %v", err)
	}
	if _, err := tmpl.Resolve(nil, map[string]any{"must": "x"}, grantEnv(), nil); err == nil || !strings.Contains(err.Error(), "has to be given") {
		t.Errorf("got %v", err)
	}
}

func TestAPatternMatchesTheWholeValue(t *testing.T) {
	t.Parallel()
	tmpl := loaded(t, paramsText)
	for _, name := range []string{"bob\n", "bob; id", "1bob", "bob\nroot"} {
		if _, err := tmpl.Resolve(nil, map[string]any{"must": "x", "username": name}, grantEnv(), made); err == nil {
			t.Errorf("%q was let through", name)
		}
	}
}

const removalText = `schema: runner/v1
kind: delete
name: x
platform: linux
params:
  username: {type: string, default: '{{ created.outputs.username | default grant.account }}'}
  uid: {type: int, default: !expr created.outputs.uid ?? grant.uid}
steps:
  - name: Remove
    when: created.known and created.outputs.uid == params.uid
    user: {name: "{{ params.username }}", state: absent}
`

func TestARemovalResolvesWhenNothingOfTheCreationIsKnown(t *testing.T) {
	t.Parallel()
	tmpl := loaded(t, removalText)
	env := grantEnv()
	for _, c := range []struct {
		outputs map[string]any
		want    map[string]any
		runs    bool
	}{
		{nil, map[string]any{"username": "jitabc", "uid": int64(70000)}, false},
		{map[string]any{}, map[string]any{"username": "jitabc", "uid": int64(70000)}, false},
		{map[string]any{"username": "other", "uid": int64(7)}, map[string]any{"username": "other", "uid": int64(7)}, true},
	} {
		env["created"] = map[string]any{"known": len(c.outputs) > 0, "outputs": c.outputs, "started_at": time.Time{}}
		got, err := tmpl.Resolve(nil, nil, env, nil)
		if err != nil {
			t.Fatalf("%v: %v", c.outputs, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v: %s", c.outputs, diff)
		}
		env["params"] = got
		if runs, err := tmpl.Steps[0].When.Eval(env); err != nil || runs != c.runs {
			t.Errorf("%v: when is %v (%v), want %v", c.outputs, runs, err, c.runs)
		}
	}
}

func TestWhoMaySetAParam(t *testing.T) {
	t.Parallel()
	tpl := loaded(t, "schema: runner/v1\nkind: create\nname: t\nplatform: linux\nremoval: t\nsteps: [{name: One, debug: one}]\nparams:\n  sudo: {type: string, default: none, from: credential}\n  why: {type: string, optional: true, from: request}\n  home: {type: path, default: '/home/{{ grant.account }}', from: grant}\n")
	err := tpl.MaySet(map[string]any{"sudo": "ALL", "why": "x", "home": "/root"}, false)
	want := "template create/t:\n  param \"sudo\" is set by the credential or an operator; leave it out\n  param \"home\" is made from the grant; leave it out"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	if err := tpl.MaySet(map[string]any{"why": "x", "sudo": nil}, false); err != nil {
		t.Error(err)
	}
	defaults := map[string]*lang.Value{"sudo": lang.Constant("own"), "why": lang.Constant("own"), "home": lang.Constant("/own")}
	got, err := tpl.Resolve(defaults, nil, grantEnv(), made)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"sudo": "own", "why": "", "home": "/home/jitabc"}, got); diff != "" {
		t.Error(diff)
	}
	for i, want := range []string{"", "request alone", "from the grant"} {
		if why := tpl.Params[i].fixed(lang.Constant("/own")); (want == "") != (why == "") || !strings.Contains(why, want) {
			t.Errorf("%s: %q", tpl.Params[i].Name, why)
		}
	}
}
