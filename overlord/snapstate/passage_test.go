// SPDX-License-Identifier: Apache-2.0

package snapstate

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// visitors take passages in the background and note the order.
type visitors struct {
	t     *testing.T
	m     *Manager
	mu    sync.Mutex
	order []string
}

func (v *visitors) take(ctx context.Context, who string, take func(context.Context, string) (func(), error)) (leave chan struct{}) {
	leave = make(chan struct{})
	go func() {
		done, err := take(ctx, "demo")
		v.mu.Lock()
		if err != nil {
			who += " gave up"
		}
		v.order = append(v.order, who)
		v.mu.Unlock()
		if err == nil {
			<-leave
			done()
			done() // no harm
		} else if !errors.Is(err, ctx.Err()) {
			v.t.Errorf("%s: %v", who, err)
		}
	}()
	synctest.Wait()
	return leave
}

func (v *visitors) saw(want ...string) {
	v.t.Helper()
	synctest.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	if !slices.Equal(v.order, want) {
		v.t.Errorf("came in: %q, want %q", v.order, want)
	}
}

func TestPassage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{passages: passages{bySnap: map[string]*passage{}}}
		v := &visitors{t: t, m: m}
		ctx, cancel := context.WithCancel(t.Context())
		a := v.take(t.Context(), "app 1", m.Enter)
		b := v.take(t.Context(), "app 2", m.Enter)
		v.saw("app 1", "app 2")
		first := v.take(t.Context(), "switch 1", m.Close)
		second := v.take(ctx, "switch 2", m.Close)
		c := v.take(t.Context(), "app 3", m.Enter) // a stream of apps does not keep a switch out
		d := v.take(ctx, "app 4", m.Enter)
		if leave, err := m.Close(t.Context(), "other"); err != nil {
			t.Error(err)
		} else {
			leave()
		}
		close(a)
		v.saw("app 1", "app 2")
		close(b)
		synctest.Wait()
		v.mu.Lock()
		if len(v.order) != 3 || v.order[2] == "app 3" {
			t.Fatalf("came in: %q", v.order)
		}
		one := v.order[2]
		v.mu.Unlock()
		if one == "switch 2" {
			first, second = second, first
		}
		close(first)
		synctest.Wait()
		close(second)
		synctest.Wait()
		v.mu.Lock()
		if len(v.order) != 6 {
			t.Errorf("came in: %q", v.order)
		}
		v.mu.Unlock()
		cancel()
		close(c)
		close(d)
		synctest.Wait()
		if len(m.passages.bySnap) != 0 {
			t.Errorf("left over: %v", m.passages.bySnap)
		}
	})
}

func TestPassageIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{passages: passages{bySnap: map[string]*passage{}}}
		v := &visitors{t: t, m: m}
		a := v.take(t.Context(), "app 1", m.Enter)
		ctx, cancel := context.WithCancel(t.Context())
		v.take(ctx, "switch", m.Close)
		b := v.take(t.Context(), "app 2", m.Enter)
		v.saw("app 1")
		cancel() // who waited behind the switch goes on
		synctest.Wait()
		v.mu.Lock()
		slices.Sort(v.order)
		v.mu.Unlock()
		v.saw("app 1", "app 2", "switch gave up")
		close(a)
		close(b)
		synctest.Wait()
		if len(m.passages.bySnap) != 0 {
			t.Errorf("left over: %v", m.passages.bySnap)
		}
	})
}
