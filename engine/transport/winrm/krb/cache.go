package krb

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
)

// maxClients bounds a Cache; the one that was not asked for the longest goes first.
const maxClients = 256

// Cache keeps Clients, so that all who log in with the same secret to the same place
// share tickets. Its zero value is ready. It is safe for concurrent use. Close ends it.
type Cache struct {
	mu      sync.Mutex
	secret  []byte
	clients map[[sha256.Size]byte]*Client
	order   [][sha256.Size]byte // the one asked for last at the end
}

// Client returns the Client for cfg, which is made where there is none yet. Another
// secret is another Client. It dials by the Dial that came last, since an earlier one
// may belong to a connection that is gone. The Cache closes
// it, or drops it when there are many others. The error is an *Error.
func (c *Cache) Client(cfg Config) (*Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clients == nil {
		c.clients, c.secret = map[[sha256.Size]byte]*Client{}, make([]byte, 32)
		_, _ = rand.Read(c.secret) // never fails
	}
	mac := hmac.New(sha256.New, c.secret) // no digest of a password is kept that somebody could compare
	for _, s := range slices.Concat([]string{cfg.Realm, cfg.User, cfg.Password.Reveal(), cfg.Keytab.Reveal(), cfg.CCache.Reveal(), cfg.Route, fmt.Sprint(cfg.Etypes, cfg.Conf)}, cfg.KDCs) {
		_, _ = fmt.Fprintf(mac, "%d:%s", len(s), s)
	}
	key := [sha256.Size]byte(mac.Sum(nil))
	client := c.clients[key]
	if client == nil {
		var err error
		if client, err = New(cfg); err != nil {
			return nil, err
		}
		c.clients[key] = client
	}
	client.mu.Lock()
	client.cfg.Dial = cfg.Dial
	client.mu.Unlock()
	c.order = append(slices.DeleteFunc(c.order, func(k [sha256.Size]byte) bool { return k == key }), key)
	if len(c.order) > maxClients {
		delete(c.clients, c.order[0]) // not closed: somebody may still use it
		c.order = c.order[1:]
	}
	return client, nil
}

// Close closes the Clients.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.clients {
		client.Close()
	}
	c.clients, c.order = nil, nil
}
