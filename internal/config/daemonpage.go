package config

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
)

const (
	tokenPath = "daemon.token"
	// MinToken is how many characters the page's token has at least.
	MinToken = 16
	// ListenOff is the value of daemon.listen for no page.
	ListenOff = "off"

	listenHint = "write HOST:PORT as in 127.0.0.1:8420, or off for no page"
)

// page reads what `sluice schedule` needs for its page. Whether a token is needed
// depends on a flag too, and is judged at the start.
func (r *reader) page(f fields, d *Daemon) {
	d.Listen, _ = f.text("listen")
	d.ListenGiven = f.has("listen")
	if d.Listen != "" && !GoodListen(d.Listen) {
		r.errorf(f.pos("listen"), listenHint, "listen: %s is not an address", f.shown("listen"))
	}
	if text, ok := f.text("url"); ok && text != "" {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != schemeHTTPS && u.Scheme != schemeHTTP || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
			r.errorf(f.pos("url"), "write https://HOST, without a path", "url: %s is not the address of a host", f.shown("url"))
		} else {
			d.URL = u.Scheme + "://" + u.Host
		}
	}
	r.token(f, d)
}

func (r *reader) token(f fields, d *Daemon) {
	var text string
	name := "token"
	switch {
	case f.has("token") && f.has("token_file"):
		r.errorf(f.keyPos["token_file"], "keep one of them", "token and token_file are both given")
		return
	case f.has("token_file"):
		name = "token_file"
		var ok bool
		if text, ok = f.secretFile(name); !ok {
			return
		}
	case f.has("token"):
		s, ok := f.scalar("token")
		if !ok || r.unset[f.vals["token"]] || s.text == "" {
			return // empty, as by ${SLUICE_TOKEN:-}: there is none
		}
		text = s.text
	default:
		return
	}
	if len(text) < MinToken {
		r.errorf(f.pos(name), "make one with `openssl rand -hex 32`", "%s has %d characters, at least %d are needed", name, len(text), MinToken)
		return
	}
	d.Token = NewSecret(text)
}

// GoodListen reports whether a text is HOST:PORT, or off.
func GoodListen(text string) bool {
	if text == ListenOff {
		return true
	}
	_, port, err := net.SplitHostPort(text)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil && n <= 65535
}

// Loopback reports whether a host, a name or an address, is this machine alone.
func Loopback(host string) bool { return loopback(host) }

// OpenToOthers reports whether the page can be reached from other machines: it
// listens elsewhere than on loopback, or has an address that others use.
func (d Daemon) OpenToOthers() bool {
	host, _, _ := net.SplitHostPort(d.Listen) // it has been checked
	if !loopback(host) {
		return true
	}
	u, err := url.Parse(d.URL)
	return d.URL != "" && (err != nil || !loopback(u.Hostname()))
}

// Hosts are the names that the page is reached by, without ports.
func (d Daemon) Hosts() []string {
	var hosts []string
	if u, err := url.Parse(d.URL); err == nil && u.Hostname() != "" {
		hosts = append(hosts, u.Hostname())
	}
	if host, _, err := net.SplitHostPort(d.Listen); err == nil && host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
