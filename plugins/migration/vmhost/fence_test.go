package vmhost

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// TestFence: a newer manager's order begins after those of older ones have ended, and is the last word also after a
// restart (invariant M4).
func TestFence(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	file := filepath.Join(t.TempDir(), "epoch.json")
	f, err := openFence(file)
	if err != nil {
		t.Fatal(err)
	}
	old, leave, err := f.enter(ctx, "3")
	if err != nil {
		t.Fatal(err)
	}
	_, same, err := f.enter(ctx, "3")
	if err != nil {
		t.Fatalf("an order beside another of the same manager: %v", err)
	}
	same()
	ended := make(chan struct{})
	entered := make(chan error, 1)
	go func() {
		_, leave, err := f.enter(ctx, "4")
		select {
		case <-ended:
		default:
			err = errors.Join(err, errors.New("entered before the older order had ended"))
		}
		if err == nil {
			leave()
		}
		entered <- err
	}()
	<-old.Done() // it was broken off
	if _, _, err := f.enter(ctx, "3"); !errors.Is(err, hypervisor.ErrFenced) {
		t.Errorf("an older manager while the newer one waits: %v", err)
	}
	close(ended)
	leave()
	if err := <-entered; err != nil {
		t.Error(err)
	}
	for _, header := range []string{"", "0", "-1", "x", "99999999999999999999"} {
		if _, _, err := f.enter(ctx, header); err == nil || errors.Is(err, hypervisor.ErrFenced) {
			t.Errorf("epoch %q: %v", header, err)
		}
	}
	again, err := openFence(file)
	if err != nil || again.highest() != 4 {
		t.Fatalf("after a restart: epoch %d, %v", again.highest(), err)
	}
	if err := again.check("3"); !errors.Is(err, hypervisor.ErrFenced) {
		t.Errorf("a look by an older manager after a restart: %v", err)
	}
	if err := errors.Join(again.check(""), again.check("4"), again.check("5")); err != nil || again.highest() != 4 {
		t.Errorf("looks: %v; they raise nothing (%d)", err, again.highest())
	}
	if err := save(file, epochFile{Version: recordVersion + 1, Epoch: 9}); err != nil {
		t.Fatal(err)
	}
	if _, err := openFence(file); err == nil {
		t.Error("a file of a newer version was read")
	}
}

// TestFenceHoldsEveryOrder: not only the order that raises the epoch waits for those of older managers, but each until they
// have ended: one that is given again, or beside the first (invariant M4).
func TestFenceHoldsEveryOrder(t *testing.T) {
	f, err := openFence(filepath.Join(t.TempDir(), "epoch.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, leave, err := f.enter(t.Context(), "3")
	if err != nil {
		t.Fatal(err)
	}
	impatient, giveUp := context.WithCancel(t.Context())
	giveUp()
	for _, order := range []string{"first", "second"} {
		if _, _, err := f.enter(impatient, "4"); !errors.Is(err, context.Canceled) {
			t.Errorf("the %s order of the newer manager while an older one's is carried out: %v", order, err)
		}
	}
	leave()
	if _, _, err := f.enter(t.Context(), "4"); err != nil {
		t.Errorf("an order after the older one had ended: %v", err)
	}
}
