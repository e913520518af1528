package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"text/template"
)

func TestValueNeverPrints(t *testing.T) {
	t.Parallel()
	const canary = "canary-5ecret"
	v := struct {
		V Value
		P *Value
	}{New(canary), new(New(canary))}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&out, verb+verb, v, v.V)
	}
	if err := json.NewEncoder(&out).Encode(v); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", slog.Any("v", v.V), slog.Any("all", v))
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", slog.Any("v", v.V), slog.Any("all", v))
	if err := template.Must(template.New("").Parse("{{ .V }} {{ printf `%s` .V }}")).Execute(&out, v); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), canary) || !strings.Contains(out.String(), Hidden) {
		t.Errorf("got %s", out.String())
	}
	if v.V.Reveal() != canary || v.V.IsZero() || !(Value{}).IsZero() || !New("").IsZero() {
		t.Error("Reveal or IsZero is wrong")
	}
}
