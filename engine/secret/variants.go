package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// manyForms is the length in bytes up to which a secret is looked for in every
// form. Of longer ones, which are files of many lines, the rarer forms are
// found line by line: memory grows with the length times the number of forms.
const manyForms = 4 << 10

// variants returns every form in which a secret is looked for: itself and each
// of its lines, as it is, quoted, escaped and encoded. Sorted, without repeats.
func variants(text string) []string {
	set := map[string]bool{}
	add := func(forms ...string) {
		for _, f := range forms {
			if len(f) >= MinMasked {
				set[f] = true
			}
		}
	}
	for _, part := range parts(text) {
		if len(part) > manyForms {
			add(part, hex.EncodeToString([]byte(part)))
			add(base64Forms([]byte(part))...)
			continue
		}
		add(escaped(part)...)
		for _, f := range []string{part, shQuoted(part), psQuoted(part), jsonEscaped(part, true)} {
			add(encoded(f)...)
		}
	}
	out := make([]string, 0, len(set))
	for f := range set {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

// parts returns the secret and, when it has several lines, its lines. A line
// of fewer than MinMasked characters and PEM armour, which is no secret, are
// left out: they would hide harmless text.
func parts(text string) []string {
	if !strings.ContainsAny(text, "\r\n") {
		return []string{text}
	}
	lf := strings.ReplaceAll(text, "\r\n", "\n")
	out := []string{text, lf, strings.ReplaceAll(lf, "\n", "\r\n")}
	for line := range strings.FieldsFuncSeq(lf, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.TrimSpace(line)
		armour := strings.HasPrefix(line, "-----") && strings.HasSuffix(line, "-----")
		if utf8.RuneCountInString(line) >= MinMasked && !armour {
			out = append(out, line)
		}
	}
	return out
}

// escaped returns the forms that are still text of the same language.
func escaped(s string) []string {
	out := []string{
		s,
		shQuoted(s),
		strings.ReplaceAll(s, "'", `'"'"'`),
		backslashed(s, "\"\\$`"), // inside double quotes of sh
		backslashed(s, " \t!\"#$&'()*;<>?[\\]^`{|}~"), // as printf %q of bash
		psQuoted(s),
		prefixed(s, "\"$`", '`'), // inside double quotes of PowerShell
		url.QueryEscape(s),
		url.PathEscape(s),
		percent(s, "%%%02X"),
		percent(s, "%%%02x"),
	}
	for _, f := range []string{url.QueryEscape(s), url.PathEscape(s)} {
		out = append(out, lowerPercent(f))
	}
	if utf8.ValidString(s) {
		plain := jsonEscaped(s, false)
		out = append(out, jsonEscaped(s, true), plain, asciiOnly(plain), strings.ReplaceAll(plain, "/", `\/`), html.EscapeString(s))
		var b bytes.Buffer
		if xml.EscapeText(&b, []byte(s)) == nil {
			out = append(out, b.String())
		}
		named := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")
		text := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
		out = append(out, named.Replace(s), text.Replace(s))
	}
	return out
}

// encoded returns the forms that are a different alphabet altogether.
func encoded(s string) []string {
	out := base64Forms([]byte(s))
	out = append(out, hex.EncodeToString([]byte(s)), strings.ToUpper(hex.EncodeToString([]byte(s))))
	if utf8.ValidString(s) {
		wide := utf16le(s)
		out = append(out, string(wide))
		out = append(out, base64Forms(wide)...)
	}
	return out
}

// base64Forms returns what is certain of the base64 of any text that holds p,
// for the three ways p can lie across its groups of three bytes; and the whole
// encoding of p alone, also wrapped at 64 and 76 columns.
func base64Forms(p []byte) []string {
	var out []string
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		for before := range 3 {
			all := enc.EncodeToString(append(make([]byte, before), p...))
			from := (8*before + 5) / 6
			to := 8 * (before + len(p)) / 6
			out = append(out, all[from:to])
		}
		whole := enc.EncodeToString(p)
		out = append(out, whole, strings.TrimRight(whole, "="))
		for _, width := range []int{64, 76} {
			for line := range slices.Chunk([]byte(whole), width) {
				if len(whole) > width && len(line) >= 2*MinMasked {
					out = append(out, string(line))
				}
			}
		}
	}
	return out
}

func utf16le(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = append(out, byte(u&0xff), byte(u>>8))
	}
	return out
}

func shQuoted(s string) string { return strings.ReplaceAll(s, "'", `'\''`) }

func psQuoted(s string) string { return strings.ReplaceAll(s, "'", "''") }

// jsonEscaped returns s as it stands between the quotes of a JSON string.
func jsonEscaped(s string, escapeHTML bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escapeHTML)
	if err := e.Encode(s); err != nil {
		return s
	}
	quoted := strings.TrimSuffix(b.String(), "\n")
	return quoted[1 : len(quoted)-1]
}

// asciiOnly writes what is not ASCII as \uXXXX, as many JSON encoders do.
func asciiOnly(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, u)
		}
	}
	return b.String()
}

func backslashed(s, special string) string { return prefixed(s, special, '\\') }

// prefixed puts mark before each character of special.
func prefixed(s, special string, mark byte) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(special, s[i]) >= 0 {
			b.WriteByte(mark)
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// percent escapes everything but the unreserved characters of RFC 3986, 2.3.
func percent(s, format string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, format, c)
		}
	}
	return b.String()
}

// lowerPercent turns %2F into %2f; s holds no percent sign but of escapes.
func lowerPercent(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}
