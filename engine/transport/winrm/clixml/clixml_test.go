package clixml_test

import (
	"encoding/base64"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"runner/engine/secret"
	"runner/engine/transport/winrm/clixml"
)

// rot is a cipher that anybody can read.
type rot struct{}

func (rot) Seal(v secret.Value) (string, error) {
	return base64.StdEncoding.EncodeToString([]byte("sealed:" + v.Reveal())), nil
}

func (rot) Open(s string) (secret.Value, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	text, ok := strings.CutPrefix(string(b), "sealed:")
	if err != nil || !ok {
		return secret.Value{}, errors.New("not sealed")
	}
	return secret.New(text), nil
}

var equal = cmp.Options{
	cmp.Comparer(func(a, b secret.Value) bool { return a.Reveal() == b.Reveal() }),
	cmpopts.EquateNaNs(),
}

// What Windows writes, as recorded or as [MS-PSRP] 2.2.5 has it.
func TestBothWays(t *testing.T) {
	t.Parallel()
	at := time.Date(2018, 6, 13, 23, 46, 12, 131633200, time.UTC)
	for name, c := range map[string]struct {
		xml string
		v   any
	}{
		"nothing":        {`<Nil />`, nil},
		"text":           {`<S>a &lt;b&gt; &amp; "c"</S>`, `a <b> & "c"`},
		"no text":        {`<S></S>`, ""},
		"line break":     {`<S>a_x000D__x000A_b_x0009_</S>`, "a\r\nb\t"},
		"escape":         {`<S>_x005F_x0041_ __ _x005F_X</S>`, "_x0041_ __ _X"},
		"beyond 16 bits": {`<S>_xD83D__xDD11_</S>`, "\U0001f511"},
		"control":        {`<S>_x0000__x007F__x0085_</S>`, "\x00\x7f\u0085"},
		"noncharacters":  {`<S>_xFFFE__xFFFF_</S>`, "\ufffe\uffff"},
		"bool":           {`<B>true</B>`, true},
		"sbyte":          {`<SB>-128</SB>`, int8(-128)},
		"byte":           {`<By>255</By>`, uint8(255)},
		"short":          {`<I16>-32768</I16>`, int16(-32768)},
		"ushort":         {`<U16>65535</U16>`, uint16(65535)},
		"int":            {`<I32>-2147483648</I32>`, int32(math.MinInt32)},
		"uint":           {`<U32>4294967295</U32>`, uint32(math.MaxUint32)},
		"long":           {`<I64>9223372036854775807</I64>`, int64(math.MaxInt64)},
		"ulong":          {`<U64>18446744073709551615</U64>`, uint64(math.MaxUint64)},
		"float":          {`<Sg>12.34</Sg>`, float32(12.34)},
		"double":         {`<Db>-INF</Db>`, math.Inf(-1)},
		"no number":      {`<Db>NaN</Db>`, math.NaN()},
		"decimal":        {`<D>79228162514264337593543950335</D>`, clixml.Decimal("79228162514264337593543950335")},
		"char":           {`<C>97</C>`, clixml.Char('a')},
		"time in UTC":    {`<DT>2018-06-13T23:46:12.1316332Z</DT>`, at},
		"local time":     {`<DT>2018-06-13T23:46:12.1316332</DT>`, clixml.LocalTime{Time: at}},
		"time span":      {`<TS>PT9.0269026S</TS>`, clixml.TimeSpan(90269026)},
		"longest span":   {`<TS>P10675199DT2H48M5.4775807S</TS>`, clixml.TimeSpan(math.MaxInt64)},
		"shortest span":  {`<TS>-P10675199DT2H48M5.4775808S</TS>`, clixml.TimeSpan(math.MinInt64)},
		"no span":        {`<TS>PT0S</TS>`, clixml.TimeSpan(0)},
		"two days":       {`<TS>P2D</TS>`, clixml.TimeSpan(2 * 86400 * 1e7)},
		"bytes":          {`<BA>AQIDBA==</BA>`, []byte{1, 2, 3, 4}},
		"guid":           {`<G>792e5b37-4505-47ef-b7d2-8711bb7affa8</G>`, clixml.GUID{0x79, 0x2e, 0x5b, 0x37, 0x45, 0x05, 0x47, 0xef, 0xb7, 0xd2, 0x87, 0x11, 0xbb, 0x7a, 0xff, 0xa8}},
		"version":        {`<Version>5.1.17763.1</Version>`, clixml.Version("5.1.17763.1")},
		"uri":            {`<URI>http://x/?a&amp;b</URI>`, clixml.URI("http://x/?a&b")},
		"document":       {`<XD>&lt;a/&gt;</XD>`, clixml.XML("<a/>")},
		"script block":   {`<SBK>get-command -type cmdlet</SBK>`, clixml.ScriptBlock("get-command -type cmdlet")},
		"secret":         {`<SS>c2VhbGVkOmh1c2g=</SS>`, secret.New("hush")},
		"object": {
			`<Obj RefId="0"><TN RefId="0"><T>A.B</T><T>System.Object</T></TN><ToString>x_x000A_y</ToString><Props><S N="p&quot;">v</S></Props><MS><Nil N="n" /></MS></Obj>`,
			&clixml.Object{Types: []string{"A.B", "System.Object"}, ToString: "x\ny", Adapted: []clixml.Member{{Name: `p"`, Value: "v"}}, Extended: []clixml.Member{{Name: "n"}}},
		},
		"enumeration": {
			`<Obj RefId="0"><TN RefId="0"><T>E</T><T>System.Enum</T><T>System.ValueType</T><T>System.Object</T></TN><ToString>None</ToString><I32>3</I32></Obj>`,
			clixml.Enum("E", "None", 3),
		},
		"lists": {
			`<Obj RefId="0"><LST><Obj RefId="1"><STK><I32>1</I32></STK></Obj><Obj RefId="2"><QUE></QUE></Obj><Obj RefId="3"><IE><S>a</S></IE></Obj></LST></Obj>`,
			&clixml.Object{Base: clixml.List{Items: []any{
				&clixml.Object{Base: clixml.List{Kind: clixml.Stack, Items: []any{int32(1)}}},
				&clixml.Object{Base: clixml.List{Kind: clixml.Queue}},
				&clixml.Object{Base: clixml.List{Kind: clixml.Enumerable, Items: []any{"a"}}},
			}}},
		},
		"dictionary": {
			`<Obj RefId="0"><TN RefId="0"><T>System.Collections.Hashtable</T></TN><DCT><En><S N="Key">k</S><Obj N="Value" RefId="1"><TNRef RefId="0" /><DCT><En><I32 N="Key">1</I32><Nil N="Value" /></En></DCT></Obj></En></DCT></Obj>`,
			&clixml.Object{Types: []string{"System.Collections.Hashtable"}, Base: clixml.Dict{{Key: "k", Value: &clixml.Object{
				Types: []string{"System.Collections.Hashtable"}, Base: clixml.Dict{{Key: int32(1)}},
			}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := clixml.Decode([]byte("\xef\xbb\xbf"+c.xml), rot{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.v, got, equal); d != "" {
				t.Errorf("read (-want +got):\n%s", d)
			}
			out, err := clixml.Encode(c.v, rot{})
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.ReplaceAll(c.xml, `"c"`, "&quot;c&quot;"); out != want {
				t.Errorf("wrote %s\nwant  %s", out, want)
			}
		})
	}
}

// Other forms that are read and never written.
func TestReads(t *testing.T) {
	t.Parallel()
	for xml, want := range map[string]any{
		`<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04"><S>a</S></Objs>`: "a",
		`<B> True </B>`:                      true,
		`<S>_xd83d__XDD11_</S>`:              "\U0001f511",
		`<S>_xD83D_x</S>`:                    "\ufffdx",
		`<S>_x41_</S>`:                       "_x41_",
		`<Db>Infinity</Db>`:                  math.Inf(1),
		`<DT>2018-06-13T23:46:12+02:00</DT>`: time.Date(2018, 6, 13, 21, 46, 12, 0, time.UTC),
		`<S/>`:                               "",
	} {
		got, err := clixml.Decode([]byte(xml), nil)
		if at, is := got.(time.Time); is {
			got = at.UTC()
		}
		if err != nil || got != want {
			t.Errorf("%s is read as %#v, %v", xml, got, err)
		}
	}
}

func TestReferencesKeepIdentity(t *testing.T) {
	t.Parallel()
	self := clixml.Note()
	self.Extended = []clixml.Member{{Name: "Me", Value: self}, {Name: "Twice", Value: clixml.List{Items: []any{self}}}}
	out, err := clixml.Encode(self, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := clixml.Decode([]byte(out), nil)
	if err != nil {
		t.Fatal(err)
	}
	items, _ := clixml.Items(clixml.Get(v, "Twice"))
	if clixml.Get(v, "Me", "me", "ME") != v || len(items) != 1 || items[0] != v {
		t.Errorf("%s is read as %#v", out, v)
	}
}

func TestTextOfValues(t *testing.T) {
	t.Parallel()
	loop := &clixml.Object{}
	many := make([]any, 5000)
	for i := range many {
		many[i] = loop
	}
	loop.Base = clixml.List{Items: many}
	if n := len(clixml.Text(loop)); n > 1<<17 {
		t.Errorf("a list that holds itself makes %d bytes", n)
	}
	for _, c := range []struct {
		v    any
		want string
	}{
		{nil, ""},
		{true, "True"},
		{int64(-5), "-5"},
		{[]byte{1, 0xab}, "01AB"},
		{clixml.Char('x'), "x"},
		{2.5, "2.5"},
		{float32(0.1), "0.1"},
		{clixml.List{Items: []any{"a", int32(1), clixml.List{Items: []any{"b", "c"}}}}, "a 1 b c"},
		{&clixml.Object{Base: "plain"}, "plain"},
		{&clixml.Object{ToString: "said", Base: "plain"}, "said"},
		{(*clixml.Object)(nil), ""},
		{clixml.Dict{}, "System.Collections.Hashtable"},
		{secret.New("hush"), "***"},
		{clixml.TimeSpan(15e6), "PT1.5S"},
		{clixml.GUID{1}, "01000000-0000-0000-0000-000000000000"},
		{time.Unix(0, 0).UTC(), "1970-01-01T00:00:00Z"},
		{clixml.LocalTime{Time: time.Unix(0, 0).UTC()}, "1970-01-01T00:00:00"},
	} {
		if got := clixml.Text(c.v); got != c.want {
			t.Errorf("%#v is %q, want %q", c.v, got, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`<Obj><LST>`, 40)
	for name, xml := range map[string]string{
		"nothing":                "",
		"no element":             "hello",
		"cut short":              `<Obj RefId="0"><MS><S N="a">`,
		"unknown element":        `<Foo>1</Foo>`,
		"element in a text":      `<S><B>true</B></S>`,
		"two values":             `<S>a</S><S>b</S>`,
		"two values in Objs":     `<Objs><S>a</S><S>b</S></Objs>`,
		"text behind":            `<S>a</S>b`,
		"dangling reference":     `<Ref RefId="7" />`,
		"dangling type":          `<Obj><TNRef RefId="7" /></Obj>`,
		"too deep":               deep + deep,
		"not an int":             `<I32>2147483648</I32>`,
		"negative byte":          `<By>-1</By>`,
		"not a bool":             `<B>maybe</B>`,
		"not base64":             `<BA>%%</BA>`,
		"not a GUID":             `<G>792e5b37-4505-47ef-b7d2-8711bb7affa</G>`,
		"not a time":             `<DT>yesterday</DT>`,
		"not a span":             `<TS>P1Y</TS>`,
		"empty span":             `<TS>P</TS>`,
		"span out of order":      `<TS>PT1S1M</TS>`,
		"span too long":          `<TS>P99999999999D</TS>`,
		"span just too long":     `<TS>P10675199DT2H48M5.4775808S</TS>`,
		"entry without a key":    `<Obj><DCT><En><S N="Value">a</S></En></DCT></Obj>`,
		"entry with two keys":    `<Obj><DCT><En><S N="Key">a</S><S N="Key">a</S><S N="Value">a</S></En></DCT></Obj>`,
		"strange entry":          `<Obj><DCT><En><S N="Other">a</S></En></DCT></Obj>`,
		"no entry":               `<Obj><DCT><S>a</S></DCT></Obj>`,
		"object wraps an object": `<Obj><Obj></Obj></Obj>`,
		"secret that is none":    `<SS>aGk=</SS>`,
		"bad XML":                `<S a=b></S>`,
		"entity":                 `<!DOCTYPE x [<!ENTITY e "boom">]><S>&e;</S>`,
	} {
		if v, err := clixml.Decode([]byte(xml), rot{}); err == nil || !strings.HasPrefix(err.Error(), "clixml: ") {
			t.Errorf("%s: read as %#v, %v", name, v, err)
		}
	}
	if v, err := clixml.Decode([]byte(`<SS>aGk=</SS>`), nil); err == nil {
		t.Errorf("a secret was read without a key: %#v", v)
	}
	if v, err := clixml.Decode([]byte("<Obj><LST>"+strings.Repeat("<Nil/>", 1<<18)+"</LST></Obj>"), nil); err == nil {
		t.Errorf("more elements than allowed were read: %T", v)
	}
	var down any = "x"
	for range 70 {
		down = clixml.List{Items: []any{down}}
	}
	for name, v := range map[string]any{
		"no UTF-8":           "\xff",
		"no UTF-8 in a name": clixml.Note(clixml.Member{Name: "\xff"}),
		"unknown type":       struct{}{},
		"too deep":           down,
		"secret, no key":     secret.New("canary"),
		"wrapped object":     &clixml.Object{Base: clixml.Note()},
	} {
		if out, err := clixml.Encode(v, nil); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: wrote %s, %v", name, out, err)
		}
	}
}

// values draws what survives both ways unchanged.
func values(depth int) *rapid.Generator[any] {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"_x", "_X0041_", "__x_", "\r\n", "]]>", "\u00ad", "\ufffd", "_xD83D_"}))
	primitive := rapid.OneOf(
		rapid.Just[any](nil), rapid.Map(text, func(s string) any { return s }), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.Int64(), func(n int64) any { return n }), rapid.Map(rapid.Int32(), func(n int32) any { return n }),
		rapid.Map(rapid.Uint16(), func(n uint16) any { return clixml.Char(n) }), rapid.Map(rapid.Float64(), func(n float64) any { return n }),
		rapid.Map(rapid.Int64(), func(n int64) any { return clixml.TimeSpan(n) }), rapid.Map(text, func(s string) any { return secret.New(s) }),
		rapid.Map(rapid.Int64Range(-6e10, 2e11), func(n int64) any { return time.Unix(n, 100).UTC() }),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 50), func(b []byte) any { return b }), rapid.Map(text, func(s string) any { return clixml.ScriptBlock(s) }),
	)
	if depth == 0 {
		return primitive
	}
	return rapid.OneOf(primitive, rapid.Custom(func(t *rapid.T) any {
		o := &clixml.Object{Types: rapid.SliceOfN(text, 0, 3).Draw(t, "types"), ToString: text.Draw(t, "tostring")}
		if len(o.Types) == 0 {
			o.Types = nil
		}
		inner := rapid.SliceOfN(values(depth-1), 0, 4)
		switch rapid.IntRange(0, 3).Draw(t, "base") {
		case 0:
			l := clixml.List{Kind: clixml.Kind(rapid.IntRange(0, 3).Draw(t, "kind"))}
			l.Items = append(l.Items, inner.Draw(t, "items")...)
			o.Base = l
		case 1:
			d := clixml.Dict{}
			for _, v := range inner.Draw(t, "values") {
				d = append(d, clixml.Entry{Key: text.Draw(t, "key"), Value: v})
			}
			o.Base = d
		}
		for _, v := range inner.Draw(t, "members") {
			o.Extended = append(o.Extended, clixml.Member{Name: text.Draw(t, "name"), Value: v})
		}
		return o
	}))
}

func TestAnyValueComesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := values(3).Draw(t, "value")
		out, err := clixml.Encode(v, rot{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := clixml.Decode([]byte(out), rot{})
		if err != nil {
			t.Fatalf("%s\n%v", out, err)
		}
		if d := cmp.Diff(v, got, equal); d != "" {
			t.Fatalf("%s\n%s", out, d)
		}
	})
}

// Whatever a peer writes is refused or read, and what was read can be written
// and is the same when it is read again.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`<S>_x0041_</S>`, `<Obj RefId="0"><MS><Ref RefId="0" N="a"/></MS></Obj>`, `<TS>-P1DT1.5S</TS>`, `<SS>c2VhbGVkOmh1c2g=</SS>`,
		`<Obj RefId="0"><TN RefId="0"><T>a</T></TN><DCT><En><S N="Key">k</S><Obj N="Value" RefId="1"><TNRef RefId="0"/><LST><I32>1</I32></LST></Obj></En></DCT></Obj>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := clixml.Decode(b, rot{})
		if err != nil {
			return
		}
		_ = clixml.Text(v)
		out, err := clixml.Encode(v, rot{})
		if err != nil {
			if strings.Contains(err.Error(), "deeply") {
				return // at the very limit, a reference may be written in full
			}
			t.Fatalf("%q was read and cannot be written: %v", b, err)
		}
		again, err := clixml.Decode([]byte(out), rot{})
		if err != nil {
			t.Fatalf("%q became %q: %v", b, out, err)
		}
		twice, err := clixml.Encode(again, rot{})
		if err != nil || twice != out {
			t.Fatalf("%q became %q and then %q: %v", b, out, twice, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	items := make([]any, 1000)
	for i := range items {
		items[i] = clixml.Dict{{Key: "runner", Value: "0123456789"}, {Key: "step", Value: int32(1)}}
	}
	out, err := clixml.Encode(clixml.List{Items: items}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(out)))
	for b.Loop() {
		if _, err := clixml.Decode([]byte(out), nil); err != nil {
			b.Fatal(err)
		}
	}
}
