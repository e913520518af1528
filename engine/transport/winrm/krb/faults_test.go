package krb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"runner/engine/secret"
	"runner/engine/transport/winrm/krb"
	"runner/engine/transport/winrm/krb/etype"
)

func TestSilenceEndsAtTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(realm)
		f.change = func(string, []byte) []byte { return nil }
		for name, n := range map[string]network{"no connection": {}, "no answer": {"dc1:88": f, "dc2:88": f}} {
			c := user(t, n, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			start := time.Now()
			_, err := c.Ticket(ctx, spn)
			if took := time.Since(start); code(err) != "auth.cancelled" || !errors.Is(err, context.DeadlineExceeded) || took != 3*time.Second {
				t.Errorf("%s: %v after %s", name, err, took)
			}
			cancel()
			start = time.Now()
			if _, err = c.Ticket(t.Context(), spn); code(err) != "kdc.unreachable" || time.Since(start) > 30*time.Second {
				t.Errorf("%s, without a deadline: %v after %s", name, err, time.Since(start))
			}
			c.Close()
		}
	})
}

func TestALoginWhoseAnswerIsLostIsNotSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := newFake(realm), newFake(realm)
		one.change = func(kind string, b []byte) []byte {
			if kind == "login" {
				return nil
			}
			return b
		}
		c := user(t, network{"dc1:88": one, "dc2:88": two}, nil)
		_, err := c.Ticket(t.Context(), spn)
		if code(err) != "kdc.unreachable" || one.count("login") != 1 || two.count("login") != 0 {
			t.Errorf("%v after %v and %v", err, one.seen, two.seen)
		}
		c.Close()
	})
}

func TestWhoLeavesDuringALoginDoesNotMakeItTwo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(realm)
		f.slow = 3 * time.Second
		c := user(t, network{"dc1:88": f}, func(cfg *krb.Config) { cfg.Password = secret.New("Wr0ng") })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := c.Ticket(ctx, spn); code(err) != "auth.cancelled" || time.Since(start) != time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		<-time.After(time.Second)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := c.Ticket(t.Context(), spn); code(err) != "auth.password" {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := f.count("login"); n != 1 {
			t.Errorf("%d attempts", n)
		}
		c.Close()
	})
}

func TestWhatAKDCMayNotAnswer(t *testing.T) {
	t.Parallel()
	cut := func(b []byte) []byte { return b[:len(b)-1] }
	for _, c := range []struct {
		name   string
		kind   string
		change func([]byte) []byte
		want   string
	}{
		{"garbage", "ask", func([]byte) []byte { return []byte("\x00\x00\x00\x04HTTP") }, "kdc.answer"},
		{"giant", "ask", func([]byte) []byte { return binary.BigEndian.AppendUint32(nil, 1<<30) }, "kdc.unreachable"},
		{"empty", "ask", func([]byte) []byte { return make([]byte, 4) }, "kdc.unreachable"},
		{"nothing", "ask", func([]byte) []byte { return []byte{} }, "kdc.unreachable"},
		{"cut off", "login", cut, "kdc.unreachable"},
		{"garbage for a login", "login", func([]byte) []byte { return []byte("\x00\x00\x00\x04HTTP") }, "kdc.answer"},
		{"changed login", "login", func(b []byte) []byte { b[len(b)-30] ^= 1; return b }, "kdc.answer"},
		{"changed ticket", "ticket", func(b []byte) []byte { b[len(b)-30] ^= 1; return b }, "kdc.answer"},
		{"garbage for a ticket", "ticket", func([]byte) []byte { return []byte("\x00\x00\x00\x04HTTP") }, "kdc.answer"},
	} {
		f := newFake(realm)
		f.change = func(kind string, b []byte) []byte {
			if kind == c.kind {
				return c.change(b)
			}
			return b
		}
		_, err := user(t, network{"dc1:88": f}, func(cfg *krb.Config) { cfg.KDCs = cfg.KDCs[:1] }).Ticket(t.Context(), spn)
		if code(err) != c.want || c.name == "giant" && !strings.Contains(err.Error(), "announces an answer of 1073741824 bytes") {
			t.Errorf("%s: %v (%s), want %s", c.name, err, code(err), c.want)
		}
	}
}

func TestAnAnswerIsForOneRequest(t *testing.T) {
	t.Parallel()
	for name, twist := range map[string]func(*messages.EncKDCRepPart){
		"of another request": func(p *messages.EncKDCRepPart) { p.Nonce++ },
		"for another server": func(p *messages.EncKDCRepPart) { p.SName.NameString = []string{"krbtgt", "OTHER.TEST"} },
		"of another realm":   func(p *messages.EncKDCRepPart) { p.SRealm = "OTHER.TEST" },
	} {
		for _, broken := range []string{"login", "ticket"} {
			f := newFake(realm)
			f.twist = func(kind string, p *messages.EncKDCRepPart) {
				if kind == broken {
					twist(p)
				}
			}
			if _, err := user(t, network{"dc1:88": f}, nil).Ticket(t.Context(), spn); code(err) != "kdc.answer" {
				t.Errorf("%s %s: %v", broken, name, err)
			}
		}
	}
	// RC4 for a session key
	for _, broken := range []string{"login", "ticket"} {
		f := newFake(realm)
		f.twist = func(kind string, p *messages.EncKDCRepPart) {
			if kind == broken {
				p.Key = etype.Key{KeyType: 23, KeyValue: make([]byte, 16)}
			}
		}
		if _, err := user(t, network{"dc1:88": f}, nil).Ticket(t.Context(), spn); code(err) != "auth.etype" {
			t.Errorf("session key of a %s: %v", broken, err)
		}
	}
}

func TestAKDCThatWeakensIsNotShownThePassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		offers types.ETypeInfo2
		want   string
	}{
		{"few iterations", types.ETypeInfo2{{EType: etype.AES256SHA1, Salt: "s", S2KParams: []byte{0, 0, 0, 1}}}, "kdc.answer"},
		{"endless iterations", types.ETypeInfo2{{EType: etype.AES256SHA1, Salt: "s", S2KParams: []byte{0xff, 0, 0, 0}}}, "kdc.answer"},
		{"RC4", types.ETypeInfo2{{EType: 23}}, "auth.etype"},
		{"DES", types.ETypeInfo2{{EType: 3}, {EType: 1}}, "auth.etype"},
		{"nothing", types.ETypeInfo2{}, "auth.etype"},
	} {
		f := newFake(realm)
		f.offers = c.offers
		_, err := user(t, network{"dc1:88": f}, nil).Ticket(t.Context(), spn)
		if code(err) != c.want || f.count("login") != 0 {
			t.Errorf("%s: %v (%s), want %s, after %v", c.name, err, code(err), c.want, f.seen)
		}
	}
}

func TestTrustsThatGoRoundEnd(t *testing.T) {
	t.Parallel()
	a, b := newFake(realm), newFake("OTHER.TEST")
	a.refer, b.refer = map[string]string{spn: "OTHER.TEST"}, map[string]string{spn: realm}
	b.session = a.session
	n := network{"dc1:88": a, "other:88": b}
	c := user(t, n, func(cfg *krb.Config) {
		cfg.Conf = &krb.Conf{Realms: map[string][]string{"OTHER.TEST": {"other"}}}
	})
	if _, err := c.Ticket(t.Context(), spn); code(err) != "auth.realm" || a.count("ticket")+b.count("ticket") != 2 {
		t.Errorf("%v after %v and %v", err, a.seen, b.seen)
	}
}

func TestAUPNIsFollowedToItsRealm(t *testing.T) {
	t.Parallel()
	a, b := newFake(realm), newFake("CHILD.CORP.TEST")
	a.refer = map[string]string{"ops@mail.test": "CHILD.CORP.TEST"}
	c := user(t, network{"dc1:88": a, "child:88": b}, func(cfg *krb.Config) {
		cfg.User, cfg.Conf = "ops@mail.test", &krb.Conf{Realms: map[string][]string{"CHILD.CORP.TEST": {"child"}}}
	})
	tkt, err := c.Ticket(t.Context(), spn)
	if err != nil || tkt.Realm != "CHILD.CORP.TEST" || tkt.Client.PrincipalNameString() != "ops" {
		t.Errorf("%v, %v", tkt, err)
	}
}

// Active Directory answers to its NetBIOS name, too, and says then what it is called.
func TestADomainMayBeCalledByItsOldName(t *testing.T) {
	t.Parallel()
	c := user(t, network{"dc1:88": newFake(realm)}, func(cfg *krb.Config) { cfg.Realm = "CORP" })
	if tkt, err := c.Ticket(t.Context(), spn); err != nil || tkt.Realm != realm {
		t.Errorf("%v, %v", tkt, err)
	}
}

func TestTicketsAreReplacedBeforeTheirEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(realm)
		n := network{"dc1:88": f}
		c := user(t, n, nil)
		get := func() *krb.Ticket {
			t.Helper()
			tkt, err := c.Ticket(t.Context(), spn)
			if err != nil {
				t.Fatal(err)
			}
			return tkt
		}
		first := get()
		<-time.After(9*time.Hour + 50*time.Minute)
		if !get().End.Equal(first.End) || f.count("login") != 1 || f.count("ticket") != 1 {
			t.Errorf("asked again too early: %v", f.seen)
		}
		<-time.After(6 * time.Minute) // four are left
		delete(n, "dc1:88")
		if !get().End.Equal(first.End) {
			t.Error("what is still good is not used while no KDC answers")
		}
		n["dc1:88"] = f
		if got := get(); !got.End.After(first.End) || f.count("login") != 2 || f.count("ticket") != 2 {
			t.Errorf("not replaced: %v, after %v", got.End, f.seen)
		}
		delete(n, "dc1:88")
		<-time.After(11 * time.Hour)
		if _, err := c.Ticket(t.Context(), spn); code(err) != "kdc.unreachable" {
			t.Errorf("a ticket that is over was used: %v", err)
		}
		c.Close()
	})
}

func TestAClockThatWasProvenIsNotGivenUpForOneThatWasNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(realm)
		c := user(t, network{"dc1:88": f}, nil)
		if _, err := c.Ticket(t.Context(), spn); err != nil {
			t.Fatal(err)
		}
		<-time.After(9*time.Hour + 57*time.Minute)
		f.ahead, f.refuse["ask"] = 20*time.Hour, errorcode.KRB_ERR_GENERIC
		tkt, err := c.Ticket(t.Context(), spn)
		if err != nil || time.Since(tkt.Stamp).Abs() > time.Second || c.Skew() != 0 {
			t.Errorf("stamp %s at %s, skew %s, %v", tkt.Stamp, time.Now(), c.Skew(), err)
		}
		c.Close()
	})
}

func TestATicketThatTheKDCForgotIsFetchedAgainOnce(t *testing.T) {
	t.Parallel()
	for _, number := range []int32{errorcode.KRB_AP_ERR_TKT_EXPIRED, errorcode.KRB_AP_ERR_MODIFIED, errorcode.KDC_ERR_TGT_REVOKED} {
		f := newFake(realm)
		f.refuse["ticket"] = number
		if _, err := user(t, network{"dc1:88": f}, nil).Ticket(t.Context(), spn); err != nil || f.count("login") != 2 {
			t.Errorf("%d: %v after %v", number, err, f.seen)
		}
	}
}

func TestATicketThatAHostDoesNotTakeIsFetchedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(realm)
		c := user(t, network{"dc1:88": f}, nil)
		for _, step := range []struct {
			name string
			do   func(*krb.Ticket)
			wait time.Duration
			want int // tickets fetched until then
		}{
			{"the first", func(*krb.Ticket) {}, time.Minute, 1},
			{"never shown", (*krb.Ticket).Presented, 5 * time.Second, 1},
			{"shown a moment ago", func(tkt *krb.Ticket) { tkt.Settled(true) }, time.Minute, 1},
			{"taken", (*krb.Ticket).Presented, time.Minute, 1},
			{"no word about it", func(tkt *krb.Ticket) { tkt.Presented(); tkt.Settled(false) }, 0, 2},
			{"refused", func(*krb.Ticket) {}, 0, 3},
			{"new", func(*krb.Ticket) {}, 0, 3},
		} {
			tkt, err := c.Ticket(t.Context(), spn)
			if err != nil || f.count("ticket") != step.want || f.count("login") != 1 {
				t.Fatalf("%s: %d tickets and %d logins, %v", step.name, f.count("ticket"), f.count("login"), err)
			}
			step.do(tkt)
			<-time.After(step.wait)
		}
		c.Close()
	})
}

func TestAKDCThatIsOutOfServiceIsAskedAgainLater(t *testing.T) {
	t.Parallel()
	f := newFake(realm)
	f.refuse["ticket"] = errorcode.KDC_ERR_SVC_UNAVAILABLE
	c := user(t, network{"dc1:88": f}, func(cfg *krb.Config) { cfg.KDCs = cfg.KDCs[:1] })
	if _, err := c.Ticket(t.Context(), spn); code(err) != "kdc.unreachable" {
		t.Error(err)
	}
	if _, err := c.Ticket(t.Context(), spn); err != nil {
		t.Error(err)
	}
	one, two := newFake(realm), newFake(realm)
	two.session = one.session
	one.refuse["ticket"] = errorcode.KDC_ERR_SVC_UNAVAILABLE
	if _, err := user(t, network{"dc1:88": one, "dc2:88": two}, nil).Ticket(t.Context(), spn); err != nil || two.count("ticket") != 1 {
		t.Errorf("the other one was not asked: %v", err)
	}
}

func TestAnUnknownNameIsAskedForOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(realm)
		f.refuse["ticket"] = errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN
		c := user(t, network{"dc1:88": f}, nil)
		for range 3 {
			if _, err := c.Ticket(t.Context(), spn); code(err) != "auth.spn_unknown" {
				t.Error(err)
			}
		}
		if f.count("ticket") != 1 {
			t.Errorf("asked %v", f.seen)
		}
		<-time.After(6 * time.Minute)
		if _, err := c.Ticket(t.Context(), spn); err != nil {
			t.Errorf("it never becomes known: %v", err)
		}
		c.Close()
	})
}

func TestDNSNamesTheKDCs(t *testing.T) {
	t.Parallel()
	f := newFake(realm)
	var asked []string
	c := user(t, network{"dc7.corp.test:88": f}, func(cfg *krb.Config) {
		cfg.KDCs = nil
		cfg.LookupSRV = func(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
			asked = append(asked, service+" "+proto+" "+name)
			if proto == "tcp" {
				return "", nil, nil
			}
			return "", []*net.SRV{{Target: "dc7.corp.test.", Port: 88}}, nil
		}
	})
	for range 3 {
		if _, err := c.Ticket(t.Context(), spn); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(asked, ", "); got != "kerberos tcp corp.test, kerberos udp corp.test" {
		t.Errorf("asked for %s", got)
	}
	none := user(t, network{}, func(cfg *krb.Config) { cfg.KDCs = nil })
	if err := none.Login(t.Context()); code(err) != "kdc.unknown" || !strings.Contains(err.Error(), "no DNS here") {
		t.Errorf("without DNS: %v", err)
	}
	silent := user(t, network{}, func(cfg *krb.Config) { cfg.KDCs, cfg.Conf = nil, &krb.Conf{NoDNS: true} })
	if err := silent.Login(t.Context()); code(err) != "kdc.unknown" {
		t.Errorf("DNS is off: %v", err)
	}
}

func TestActiveDirectorySaysWhyInItsOwnNumbers(t *testing.T) {
	t.Parallel()
	// [MS-KILE] 2.2.2: KERB-ERROR-DATA of type 3 with KERB-EXT-ERROR
	data := []byte{0x30, 0x15, 0xa1, 0x03, 0x02, 0x01, 0x03, 0xa2, 0x0e, 0x04, 0x0c, 0x34, 0x02, 0x00, 0xc0, 0, 0, 0, 0, 1, 0, 0, 0}
	e, ok := krb.ReadError(newFake(realm).refusal(errorcode.KDC_ERR_CLIENT_REVOKED, data, ""))
	if !ok || e.Status != 0xC0000234 || !strings.Contains(e.Error(), "the account is locked") {
		t.Errorf("%v, %v", e, ok)
	}
	k := newFake(realm).refusal(errorcode.KRB_ERR_GENERIC, bytes.Repeat([]byte{0x30}, 100), strings.Repeat("x\x1b[2J", 1000))
	if e, ok = krb.ReadError(k); !ok || e.Status != 0 || len(e.Realm) > 200 || strings.ContainsRune(e.Realm, 0x1b) {
		t.Errorf("%q", e.Realm)
	}
}

func TestATraceHoldsNoSecret(t *testing.T) {
	t.Parallel()
	f := newFake(realm)
	ctx, events := collect(t.Context())
	if _, err := user(t, network{"dc1:88": f}, nil).Ticket(ctx, spn); err != nil {
		t.Fatal(err)
	}
	told := fmt.Sprintf("%+v %#v", events(), events())
	for _, what := range []string{"kdcs", "ask", "tgt", "ticket"} {
		if !strings.Contains(told, "What:"+what) {
			t.Errorf("nothing about %s", what)
		}
	}
	for _, no := range []string{password, fmt.Sprintf("%d", f.session.KeyValue), fmt.Sprintf("%d", opsKey().KeyValue)} {
		if strings.Contains(told, no) {
			t.Errorf("%s is in %s", no, told)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	good := newFake(realm)
	var said [][]byte
	good.change = func(_ string, b []byte) []byte { said = append(said, b); return b }
	for i := range 3 {
		c, err := krb.New(krb.Config{Realm: realm, User: "ops", Keytab: opsKeytab(), KDCs: []string{"dc1"}, Dial: network{"dc1:88": good}.dial})
		if err != nil {
			f.Fatal(err)
		}
		_, _ = c.Ticket(f.Context(), spn)
		c.Close()
		f.Add(i, said[i][4:])
	}
	f.Fuzz(func(t *testing.T, at int, answer []byte) {
		bad, broken := newFake(realm), []string{"ask", "login", "ticket"}[uint(at)%3]
		bad.change = func(kind string, b []byte) []byte {
			if kind == broken {
				return append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)
			}
			return b
		}
		c, err := krb.New(krb.Config{Realm: realm, User: "ops", Keytab: opsKeytab(), KDCs: []string{"dc1"}, Dial: network{"dc1:88": bad}.dial})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		// the answer to the first question proves nothing, so that any may be right
		if tkt, err := c.Ticket(ctx, spn); err == nil && broken != "ask" {
			t.Errorf("%x is taken for %v", answer, tkt)
		}
	})
}
