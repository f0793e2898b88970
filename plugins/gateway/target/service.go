package target

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/target/configfs"
	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
	"github.com/ratchetos/ratchet/plugins/gateway/target/nbdlink"
	"github.com/ratchetos/ratchet/plugins/gateway/target/tree"
)

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
	// patience is how long a stop waits for requests in flight before it makes them fail.
	patience = 3 * time.Second
)

// backendPrefix begins the identifier of our devices; others are left alone.
const backendPrefix = "ratchet/"

// options of a service.
type options struct {
	control      *nbdlink.Control
	tree         *configfs.Tree
	socket       string // of the gateway
	sys          string // sysfs, "" for the usual place
	reservations string // directory of LIO's files
	log          *slog.Logger
	report       func(plugin.Event)
}

// service keeps the kernel as the configuration wants it. One goroutine (reconcile) changes configfs, one (keeper) for
// each volume looks after its device.
type service struct {
	options
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	wake   chan struct{} // has room for one
	orders chan func()   // what run does between two reconciliations

	netlink sync.Mutex // one command at a time

	mu      sync.Mutex
	list    []exports.Export
	keepers map[string]*keeper // by volume
	problem error              // of the last reconciliation, with all exports
	failed  map[string]error   // with the export of one volume
	unsure  map[string]error   // volumes whose reservations are not known, and why
	done    map[string]bool    // volumes whose export is in place
	idle    chan struct{}      // closed when run has ended
}

func newService(o options) *service {
	s := &service{
		options: o, wake: make(chan struct{}, 1), orders: make(chan func()), idle: make(chan struct{}),
		keepers: map[string]*keeper{}, unsure: map[string]error{}, done: map[string]bool{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// want sets what is to be exported.
func (s *service) want(list []exports.Export) {
	s.mu.Lock()
	s.list = list
	s.mu.Unlock()
	s.poke()
}

func (s *service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *service) start() {
	s.work.Go(s.listen)
	s.work.Go(s.run)
	s.poke()
}

// listen passes on which devices have lost their connection.
func (s *service) listen() {
	for s.ctx.Err() == nil {
		dead, err := s.control.Dead()
		if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
			return
		}
		s.mu.Lock()
		for _, k := range s.keepers {
			// Events that were lost may have been about any of them; looking after one that lives does no harm.
			if err != nil || k.is(dead) {
				k.lost()
			}
		}
		s.mu.Unlock()
		if err != nil {
			s.log.Warn("nbd events were lost", "err", err)
			sleep(s.ctx, firstRetry)
		}
	}
}

// run reconciles whenever there is reason to, and again after a failure.
func (s *service) run() {
	defer close(s.idle)
	pause := firstRetry
	for s.ctx.Err() == nil { // else there are no keepers for what is new to this process, and it would be taken down
		var again <-chan time.Time
		err := s.reconcile()
		if err == nil {
			pause = firstRetry
		} else {
			s.log.Warn("exports are not as configured", "err", err, "retry_in", pause)
			again = time.After(pause)
			pause = min(2*pause, lastRetry)
		}
		s.show()
		select {
		case <-s.wake:
		case <-again:
		case do := <-s.orders:
			do()
		case <-s.ctx.Done():
			return
		}
	}
}

// between has run do something while nothing is changed in configfs, and reconcile after it.
func (s *service) between(ctx context.Context, do func()) error {
	done := make(chan struct{})
	select {
	case s.orders <- func() { do(); close(done) }:
		<-done
		return nil
	case <-s.idle:
		return errors.New("the targets are stopping")
	case <-ctx.Done():
		return fmt.Errorf("wait for the kernel's targets: %w", ctx.Err())
	}
}

// reconcile brings keepers, configfs and devices to what is wanted, in an order that never exports a device twice: what
// goes is gone before what comes is made (package tree), and a device ends after its export.
func (s *service) reconcile() error {
	list, err := s.keep()
	var failed map[string]error
	if err == nil {
		failed, err = s.apply(list)
	}
	if err == nil {
		err = s.sweep(list)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem, s.failed = err, failed
	errs := []error{err}
	for _, e := range list {
		errs = append(errs, failed[e.Volume])
	}
	return errors.Join(errs...)
}

// keep starts keepers for new volumes and stops those of volumes that are not wanted any more. A keeper has the device that
// there is from its start: an export without one is taken down.
func (s *service) keep() ([]exports.Export, error) {
	found, err := nbdlink.Find(s.sys)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[string]bool{}
	for _, e := range s.list {
		wanted[e.Volume] = true
		if s.keepers[e.Volume] == nil && s.ctx.Err() == nil {
			k := newKeeper(s, e.Volume)
			k.adopt(found)
			s.keepers[e.Volume] = k
			s.work.Go(k.run)
		}
	}
	for volume, k := range s.keepers {
		if !wanted[volume] {
			k.cancel()
			delete(s.keepers, volume)
		}
	}
	return s.list, nil
}

// backed are the exports whose volume has a device.
func (s *service) backed(list []exports.Export) (out []tree.Backed) {
	unsure := map[string]error{}
	for _, e := range list {
		s.mu.Lock()
		k := s.keepers[e.Volume]
		s.mu.Unlock()
		if k == nil {
			continue
		}
		device, ok := k.device()
		if !ok {
			continue
		}
		reservations, err := s.kept(e)
		if err != nil {
			unsure[e.Volume] = err
		}
		out = append(out, tree.Backed{Export: e, Device: device, Reservations: reservations, Unsure: err != nil})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsure = unsure
	return out
}

// apply brings configfs to what may be exported of list. What the kernel refuses of one volume is in failed.
func (s *service) apply(list []exports.Export) (failed map[string]error, err error) {
	p, err := s.plan(list)
	if away := tree.Away(p.ops); err == nil && len(away) > 0 {
		// Initiators change reservations until their sessions have ended: those of what is made anew are read afterwards.
		if _, err = tree.Carry(away, s.do); err == nil {
			p, err = s.plan(list)
		}
	}
	var groups map[string]error
	if err == nil {
		groups, err = tree.Carry(p.ops, s.do)
	}
	failed = map[string]error{}
	for _, b := range p.sure {
		if why := groups[tree.GroupOf(b.Export)]; why != nil {
			failed[b.Volume] = why
		}
	}
	if err == nil {
		s.grown(p.sure, failed)
	}
	return failed, errors.Join(err, s.look(p.backed, p.attributes))
}

// plan is how configfs comes to what may be exported.
type plan struct {
	backed, sure []tree.Backed // what has a device, and what of that may be exported
	attributes   []string      // of all of it
	ops          []tree.Op
}

func (s *service) plan(list []exports.Export) (p plan, err error) {
	p.backed = s.backed(list)
	p.attributes = tree.Attributes(tree.Desired(p.backed))
	have, err := s.tree.Read(p.attributes)
	if err != nil {
		return p, err
	}
	p.sure = tree.Sure(p.backed, have)
	p.ops = tree.Plan(tree.Desired(p.sure), have)
	return p, nil
}

func (s *service) do(op tree.Op) error {
	s.log.Debug("configfs", "op", op.String())
	return s.tree.Do(op)
}

// look finds out what clients can use now.
func (s *service) look(list []tree.Backed, attributes []string) error {
	have, err := s.tree.Read(attributes)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.done)
	for _, b := range list {
		s.done[b.Volume] = tree.Exported(b.Export, have)
	}
	return nil
}

// grown has nvmet look at the size of its devices again, and tell its hosts; LIO looks at each READ CAPACITY.
func (s *service) grown(backed []tree.Backed, failed map[string]error) {
	for _, b := range backed {
		s.mu.Lock()
		k := s.keepers[b.Volume]
		s.mu.Unlock()
		if k == nil || failed[b.Volume] != nil || !k.tookSize() || b.Protocol != exports.ProtocolNVMe {
			continue
		}
		op := tree.Revalidate(b)
		if err := s.tree.Do(op); err != nil {
			failed[b.Volume] = fmt.Errorf("%s: %w", op, err)
		}
	}
}

// sweep ends devices of ours that nothing is wanted of.
func (s *service) sweep(list []exports.Export) error {
	found, err := nbdlink.Find(s.sys)
	if err != nil {
		return err
	}
	for _, f := range found {
		volume, ours := strings.CutPrefix(f.Backend, backendPrefix)
		wanted := false
		for _, e := range list {
			wanted = wanted || e.Volume == volume
		}
		if !ours || wanted {
			continue
		}
		if err := s.disconnect(f.Index); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) disconnect(device int) error {
	s.netlink.Lock()
	defer s.netlink.Unlock()
	return s.control.Disconnect(device)
}

// stop ends the service. With keep the kernel goes on alone until the next process takes over.
func (s *service) stop(ctx context.Context, keep bool) error {
	s.cancel()
	var err error
	if !keep {
		err = s.clear(ctx)
	}
	s.control.Close()
	s.work.Wait()
	s.tree.Close()
	return err
}

// clear takes all exports down. Requests that wait for a gateway that is gone already would hold it up: after a while
// their devices are ended under them, and they fail.
func (s *service) clear(ctx context.Context) error {
	gone := make(chan error, 1)
	go func() {
		<-s.idle // one at a time
		_, err := s.apply(nil)
		if err == nil {
			err = s.sweep(nil)
		}
		gone <- err
	}()
	hurry := time.NewTimer(patience)
	defer hurry.Stop()
	for {
		select {
		case err := <-gone:
			return err
		case <-hurry.C:
			s.log.Warn("requests of initiators are still in flight: they fail now")
			if err := s.sweep(nil); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("take exports down: %w", ctx.Err())
		}
	}
}

// sleep waits for d unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
