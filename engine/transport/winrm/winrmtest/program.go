package winrmtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"runner/engine/secret"
	"runner/engine/transport/winrm/winrmtest/pseval"
)

// Program does what powershell.exe does in a cmd shell with the batches of
// package winrm: it reads script and values from stdin, evaluates the script and
// writes the events. What the command line itself says is not evaluated: only
// that it is the one of package winrm, which reads this input.
func (w *Windows) Program(ctx context.Context, line string, stdin []byte, stdout, stderr io.Writer) int {
	script, values, err := readInput(line, stdin)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 255
	}
	w.mu.Lock()
	w.scripts = append(w.scripts, script)
	w.mu.Unlock()
	ctx, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	process := &Shell{host: &Host{}, life: ctx, kill: kill}
	mark, _ := values[0].(string)
	err = w.run(ctx, nil, w.pid(process), script, map[string]any{"v": values}, func(v any) error {
		_, err := io.WriteString(stdout, eventLine(mark, v)+"\r\n")
		return err
	})
	switch {
	case ctx.Err() != nil:
		return -1073741510 // STATUS_CONTROL_C_EXIT
	case err != nil:
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func readInput(line string, stdin []byte) (script string, values []any, err error) {
	program, encoded, ok := strings.Cut(line, " -EncodedCommand ")
	b, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || !strings.HasPrefix(program, "powershell.exe ") {
		return "", nil, errors.New("this host runs the line of package winrm only")
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
	}
	if text := string(utf16.Decode(units)); !strings.Contains(text, "@($input)") || !strings.Contains(text, "-v $w 3>&1") {
		return "", nil, errors.New("this host runs the line of package winrm only")
	}
	in := bufio.NewScanner(bytes.NewReader(stdin))
	in.Buffer(nil, 64<<20)
	for n := 0; in.Scan(); n++ {
		if n == 0 {
			b, err := base64.StdEncoding.DecodeString(in.Text())
			if err != nil {
				return "", nil, err
			}
			script = string(b)
			continue
		}
		v, err := readValue(in.Text())
		if err != nil {
			return "", nil, err
		}
		values = append(values, v)
	}
	if len(values) == 0 {
		return "", nil, errors.New("there are no values")
	}
	return script, values, in.Err()
}

func readValue(s string) (any, error) {
	base := func(s string) (string, error) {
		b, err := base64.StdEncoding.DecodeString(s)
		return string(b), err
	}
	switch kind, s := s[0], s[1:]; kind {
	case 't':
		return base(s)
	case 's':
		t, err := base(s)
		return secret.New(t), err
	case 'i':
		return strconv.ParseInt(s, 10, 64)
	case 'b':
		return s == "1", nil
	case 'n':
		return []any{}, nil
	case 'l':
		out := []any{}
		for part := range strings.SplitSeq(s, ",") {
			t, err := base(part)
			if err != nil {
				return nil, err
			}
			out = append(out, t)
		}
		return out, nil
	}
	return nil, errors.New("a value of another kind")
}

// eventLine writes a value of the script as the program does.
func eventLine(mark string, v any) string {
	text := func(s string) string { return "t" + base64.StdEncoding.EncodeToString([]byte(s)) }
	h, is := v.(*pseval.Hash)
	if is {
		n, _ := h.Get("runner")
		is = n == mark
	}
	if !is {
		return "#" + mark + " o=" + text(fmt.Sprint(v))
	}
	keys := append([]string(nil), h.Keys...)
	slices.Sort(keys)
	var out strings.Builder
	out.WriteString("#" + mark)
	for _, k := range keys {
		if k == "runner" {
			continue
		}
		out.WriteString(" " + k + "=")
		switch v, _ := h.Get(k); v := v.(type) {
		case bool:
			out.WriteString(map[bool]string{true: "b1", false: "b0"}[v])
		case int64:
			out.WriteString("i" + strconv.FormatInt(v, 10))
		default:
			out.WriteString(text(fmt.Sprint(v)))
		}
	}
	return out.String()
}
