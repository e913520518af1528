package engine_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/lab"
)

const noteCreate = `schema: runner/v1
kind: create
name: noted
platform: linux
removal: noted
become: root
params:
  public_key: {type: string, optional: true}
  password: {type: secret, generate: {}}
  with_password: {type: bool, default: true}
  word: {type: string, default: hello}
vars:
  place: '/srv/{{ grant.account }}-{{ params.word }}'
  number: !expr grant.uid + 1
  hidden: '{{ params.password }}'
steps:
  - name: Make it
    user: {name: '{{ grant.account }}', uid: '{{ grant.uid }}', expires: '{{ grant.backstop_at }}', comment: 'runner {{ grant.id }}'}
  - name: Give it its password
    password: {user: '{{ grant.account }}', password: '{{ vars.hidden }}'}
  - name: See who it is
    register: seen
    user_info: '{{ grant.account }}'
  - name: See a secret
    register: told
    shell: printf %s "{{ params.password }}"
    changed_when: false
  - name: Note it
    include: {file: common/note.yaml, params: {place: '{{ vars.place }}', text: '{{ vars.number }}'}}
renew:
  - name: Move the expiry, as it was noted
    shell: test -f "{{ vars.place }}"
    changed_when: false
  - name: Move it
    expiry: {user: '{{ grant.account }}', expires: '{{ grant.backstop_at }}'}
outputs: {until: grant.backstop_at}
`

const noteDelete = `schema: runner/v1
kind: delete
name: noted
platform: linux
become: root
steps:
  - name: It was noted so
    when: created.known
    shell: test "$(cat "{{ created.vars.place }}")" = "{{ created.vars.number }} {{ created.params.word }}"
    changed_when: false
  - name: So were the results of its steps, with their types
    when: created.known
    assert:
      - created.steps.seen.exists and created.steps.seen.uid + 1 == created.vars.number
      - created.steps.seen.started_at < created.outputs.until
      - (created.steps.told.stdout ?? "not kept") == "not kept"
  - name: Take the note away
    include: {file: common/unnote.yaml, params: {place: '{{ created.vars.place | default "" }}'}}
  - name: End its processes
    kill_sessions: {uid: '{{ grant.uid }}'}
  - name: Delete it
    tags: [no_access]
    user: {name: '{{ grant.account }}', uid: '{{ grant.uid }}', state: absent}
`

const noteFile = `schema: runner/v1
kind: steps
platform: linux
params: {place: {type: path}, text: {type: string}}
steps:
  - name: Write the note
    copy: {dest: '{{ params.place }}', content: '{{ params.text }} hello'}
`

const unnoteFile = `schema: runner/v1
kind: steps
platform: linux
params: {place: {type: string}}
steps:
  - name: Delete the note
    when: params.place != ""
    file: {path: '{{ params.place }}', state: absent}
`

// A removal runs from what was pinned, included files and variables of the
// creation, whatever became of the files since.
func TestARemovalRunsFromWhatWasPinnedWithTheGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, func(text string) string {
		return strings.ReplaceAll(text, "create: linux-user, delete: linux-user", "create: noted, delete: noted")
	})
	for file, text := range map[string]string{"create/noted.yaml": noteCreate, "delete/noted.yaml": noteDelete, "common/note.yaml": noteFile, "common/unnote.yaml": unnoteFile} {
		path := filepath.Join(w.dir, "templates", file)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
	w = openWorld(t, w.box, w.dir)
	c := w.active("ada", map[string]any{})
	note := strings.TrimSpace(w.sh("cat /srv/" + c.Grant.Account + "-hello"))
	var pins struct {
		Vars  map[string]any
		Steps map[string]map[string]any
	}
	must(t, json.Unmarshal(c.Grant.Plan.Params, &pins))
	if len(pins.Steps) != 1 || len(pins.Steps["seen"]) != 3 {
		t.Errorf("kept of the steps is %v: only what the removal reads, and no secret", pins.Steps)
	}
	if _, there := pins.Vars["hidden"]; there || len(pins.Vars) != 2 || strings.Contains(string(c.Grant.Plan.Params), "***") {
		t.Errorf("pinned is %s", c.Grant.Plan.Params)
	}
	must(t, os.WriteFile(filepath.Join(w.dir, "templates/common/unnote.yaml"), []byte(strings.Replace(unnoteFile, "file: {path: '{{ params.place }}', state: absent}", "fail: edited since", 1)), 0o600))
	must(t, os.RemoveAll(filepath.Join(w.dir, "templates/create")))
	w = openWorld(t, w.box, w.dir)
	c, err := w.Extend(t.Context(), c.Grant.ID, 2*time.Hour, "ada")
	must(t, err)
	if c.Grant.State != grant.Active {
		t.Fatalf("grant is %s", c.Grant.State)
	}
	c = w.end(c.Grant.ID)
	w.gone(c)
	if left := w.sh("ls -A /srv"); left != "" || !strings.HasSuffix(note, " hello") {
		t.Errorf("left %q; the note was %q", left, note)
	}
}

const knownCreate = `schema: runner/v1
kind: create
name: known
platform: linux
removal: known
become: root
params:
  how: {type: string}
steps:
  - name: Make it
    user: {name: '{{ grant.account }}', uid: '{{ grant.uid }}', expires: '{{ grant.backstop_at }}'}
  - name: Fail when told to
    when: params.how == "fails"
    fail: as told
OUTPUTS`

const knownDelete = `schema: runner/v1
kind: delete
name: known
platform: linux
become: root
params:
  how: {type: string}
steps:
  - name: Note what is known
    shell: printf '%s\n' "{{ params.how }} {{ created.known }}" >>/root/known
  - name: End its processes
    kill_sessions: {uid: '{{ grant.uid }}'}
  - name: Delete it
    tags: [no_access]
    user: {name: '{{ grant.account }}', uid: '{{ grant.uid }}', state: absent}
`

// What a removal may rely on is known when the creation came to its end, whether
// or not that hands on outputs; a creation whose outputs cannot be computed did not.
func TestOnlyACreationThatCameToItsEndIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Name: "box"}, func(text string) string {
		return strings.ReplaceAll(text, "create: linux-user, delete: linux-user", "create: known, delete: known")
	})
	write := func(outputs string) *world {
		for file, text := range map[string]string{"create/known.yaml": strings.Replace(knownCreate, "OUTPUTS", outputs, 1), "delete/known.yaml": knownDelete} {
			path := filepath.Join(w.dir, "templates", file)
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(path, []byte(text), 0o600))
		}
		return openWorld(t, w.box, w.dir)
	}
	run := func(w *world, how string, state grant.State) {
		c := w.request("ada", map[string]any{"how": how})
		if c.Grant.State != state {
			t.Fatalf("%s: grant is %s: %s", how, c.Grant.State, c.Grant.Failure)
		}
		if how == "broken" && !strings.Contains(c.Grant.Failure, `outputs.third: `) {
			t.Errorf("it failed because %s", c.Grant.Failure)
		}
		if state == grant.Active {
			w.gone(w.end(c.Grant.ID))
			return
		}
		c, err := w.Remove(t.Context(), c)
		must(t, err)
		w.gone(c)
	}
	plain := write("")
	run(plain, "plain", grant.Active)
	run(plain, "fails", grant.Ending)
	run(write("outputs: {account: grant.account}\n"), "outputs", grant.Active)
	run(write("outputs:\n  account: grant.account\n  third: '[1, 2][len(params.how)]'\n"), "broken", grant.Ending)
	if got, want := w.sh("cat /root/known"), "plain true\nfails false\noutputs true\nbroken false\n"; got != want {
		t.Errorf("removals found %q, want %q", got, want)
	}
}
