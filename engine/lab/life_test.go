package lab_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"runner/engine/lab"
)

// helper names the folder and the way (start or up) of the machine that this test
// binary starts when it is run again as a program of its own.
const helper = "LAB_TEST_HELPER"

func TestMain(m *testing.M) {
	how, dir, ok := strings.Cut(os.Getenv(helper), ":")
	if !ok {
		os.Exit(m.Run())
	}
	if err := help(how, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func help(how, dir string) error {
	ctx := context.Background()
	if how == "up" {
		_, err := lab.Up(ctx, lab.Config{Name: "left"}, dir)
		return err
	}
	m, err := lab.Start(ctx, lab.Config{Name: "killed", Dir: dir})
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, m.Pid())
	select {} // until killed
}

func again(tb testing.TB, how, dir string) *exec.Cmd {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), self)
	cmd.Env = append(os.Environ(), helper+"="+how+":"+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestAMachineOutlivesTheProgramThatBroughtItUpUntilDown(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "m")
	if err := again(t, "up", dir).Run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lab.Down(context.Background(), dir) })
	m, err := lab.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := login(m, "jitadm", "hostname", ssh.PublicKeys(adminKey(t, m))); err != nil || out != "left\n" {
		t.Errorf("login: %q, %v", out, err)
	}
	if out, err := m.Exec(t.Context(), "hostname"); err != nil || out != "left\n" {
		t.Errorf("exec: %q, %v", out, err)
	}
	if m.Password("jitpw") == "" {
		t.Error("the accounts were not kept")
	}
	if _, err := lab.Up(t.Context(), lab.Config{}, dir); err == nil {
		t.Error("a second machine came up in the same folder")
	}
	if err := lab.Down(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if left := remains(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := lab.Down(t.Context(), dir); err != nil {
		t.Errorf("second down: %v", err)
	}
	if _, err := lab.Load(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("load after down: %v", err)
	}
}

func TestDownSparesAnotherProcessWithTheRecordedNumber(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := lab.Up(t.Context(), lab.Config{}, dir); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "machine.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(os.WriteFile(file, good, 0o600), lab.Down(context.Background(), dir)); err != nil {
			t.Error(err)
		}
	})
	m, err := lab.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var state map[string]any
	if err := json.Unmarshal(good, &state); err != nil {
		t.Fatal(err)
	}
	state["process"].(map[string]any)["start"] = 1
	bad, _ := json.Marshal(state)
	if err := os.WriteFile(file, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lab.Load(dir); !errors.Is(err, lab.ErrNotRunning) {
		t.Errorf("load: %v", err)
	}
	if err := lab.Down(t.Context(), dir); err != nil {
		t.Errorf("down: %v", err)
	}
	if _, err := m.Exec(t.Context(), "true"); err != nil {
		t.Errorf("down killed a process it did not start: %v", err)
	}
}

func TestKillingTheProgramEndsItsMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := again(t, "start", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(line)
	if _, err := os.Stat("/proc/" + pid); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	within(t, "the machine to end", func() bool { return len(remains(t, dir)) == 0 })
}

// within waits for something that another process is about to do.
func within(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			tb.Fatalf("waited 10 s for %s", what)
		}
	}
}
