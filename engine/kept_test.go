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
  - name: Note it
    include: {file: common/note.yaml, params: {place: '{{ vars.place }}', text: '{{ vars.number }}'}}
renew:
  - name: Move the expiry, as it was noted
    shell: test -f "{{ vars.place }}"
    changed_when: false
  - name: Move it
    expiry: {user: '{{ grant.account }}', expires: '{{ grant.backstop_at }}'}
outputs: {made: "true"}
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
		Vars map[string]any
	}
	must(t, json.Unmarshal(c.Grant.Plan.Params, &pins))
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
