package systems

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/guest"
	"github.com/ratchetos/ratchet/qemu/s3server"
	"github.com/ratchetos/ratchet/qemu/vm"
)

const (
	iscsiPort = 3260
	nvmePort  = 4420
	hostName  = "iqn.2026-01.test:host"
	hostNQN   = "nqn.2014-08.org.nvmexpress:uuid:6f1c3a52-0a55-4f60-9f6f-000000000001"
)

// targetsConfig has a volume for everybody, one for a single initiator with CHAP, and one for an NVMe host.
const targetsConfig = `version: 1
hostname: targets
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
plugins:
  gateway:
    volumes:
      - name: open
        size: 64MiB
        disk: serial:ratchet-data
        upload: {max_age: 500ms}
        store: {driver: s3, endpoint: "http://10.0.2.2:%[1]s", region: us-east-1, bucket: %[2]s, access_key: %[3]s, secret_key: %[4]s}
      - {name: private, size: 16MiB, disk: "serial:ratchet-data", store: {driver: s3, endpoint: "http://10.0.2.2:%[1]s", region: us-east-1, bucket: %[2]s, access_key: %[3]s, secret_key: %[4]s}}
      - {name: fabric, size: %[5]s, disk: "serial:ratchet-data", store: {driver: s3, endpoint: "http://10.0.2.2:%[1]s", region: us-east-1, bucket: %[2]s, access_key: %[3]s, secret_key: %[4]s}}
    nbd: {listen: ["tcp::10809"]}
    target:
      iscsi:
        exports:
          - {volume: open, any_initiator: true}
          - {volume: private, initiators: ["iqn.2026-01.test:host"], chap: {user: host, secret: correct-horse}}
      nvme:
        exports:
          - {volume: fabric, hosts: ["nqn.2014-08.org.nvmexpress:uuid:6f1c3a52-0a55-4f60-9f6f-000000000001"]}
`

// targetSuite is a box that exports volumes through its kernel's targets.
type targetSuite struct {
	dir, image string
	m          *machine
	s3         *s3server.Server
}

// targets: initiators that people use, on a box whose gateway dies under them.
func targets(t *testing.T) {
	t.Parallel()
	s := newTargetSuite(t)
	s.identity(t)
	s.strangers(t)
	s.oneWriter(t)
	s.copies(t)
	s.killed(t)
	s.stalled(t)
	s.companionKilled(t)
	s.resized(t)
	s.fabric(t)
	s.reservations(t)
	s.conformance(t)
}

func newTargetSuite(t *testing.T) *targetSuite {
	t.Helper()
	dir, image := workspace(t, "targets", "full")
	s := &targetSuite{dir: dir, image: image}
	var err error
	s.s3, err = s3server.Start(t.Context(), s3server.Options{Dir: filepath.Join(dir, "s3")})
	must(t, err)
	t.Cleanup(func() { s.s3.Stop() })
	s.boot(t)
	s.m.released("provisioned")
	s.m.login()
	s.exported(t)
	return s
}

func (s *targetSuite) boot(t *testing.T) {
	t.Helper()
	_, port, err := net.SplitHostPort(s.s3.Address)
	must(t, err)
	o := box.Options{
		Image: s.image, Dir: filepath.Join(s.dir, "machine"), CPUs: sideBySide, Forwards: []int{iscsiPort, nvmePort}, Limit: 25 * time.Minute,
		Config: fmt.Appendf(nil, targetsConfig, port, s.s3.Bucket, s.s3.AccessKey, s.s3.SecretKey, "32MiB"),
	}
	must(t, os.MkdirAll(o.Dir, 0o755))
	path := filepath.Join(o.Dir, "data.img")
	must(t, box.Sparse(path, 768<<20))
	o.Disks = []vm.Disk{{Path: path, Serial: "ratchet-data"}}
	s.m = boot(t, o)
}

// exported waits until all three volumes are.
func (s *targetSuite) exported(t *testing.T) {
	t.Helper()
	await(t, stepLimit, "the exports to be up", func() (string, bool) {
		out := s.m.asks("plugin", "show", "target")
		return out, strings.Count(out, " exported ") == 3
	})
}

// url names the LUN of a volume as libiscsi takes it.
func (s *targetSuite) url(volume, credentials string) string {
	return "iscsi://" + credentials + s.m.Forward(iscsiPort) + "/" + exports.DefaultISCSIBase + ":" + volume + "/0"
}

// options names it as QEMU's block layer takes it.
func (s *targetSuite) options(volume string) string {
	return "driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=" + s.m.Forward(iscsiPort) + ",file.target=" + exports.DefaultISCSIBase + ":" + volume +
		",file.lun=0,file.initiator-name=" + hostName
}

// identity: WWN and serial number are what the volume's place in the store makes them.
func (s *targetSuite) identity(t *testing.T) {
	u := exports.VolumeUUID(exports.Place{Bucket: s.s3.Bucket, Volume: "open"})
	if out := tool(t, nil, "iscsi-inq", "-e", "1", "-c", "128", s.url("open", "")); !strings.Contains(out, u.String()) {
		t.Errorf("serial number:\n%s", out)
	}
	if out := s.m.asks("plugin", "show", "target"); !strings.Contains(out, u.WWN()) {
		t.Errorf("no %s in:\n%s", u.WWN(), out)
	}
}

// strangers: who is not named, or cannot prove it, does not get in.
func (s *targetSuite) strangers(t *testing.T) {
	private := func(initiator, credentials string) error {
		out, err := command(within(t, stepLimit), nil, "iscsi-inq", "-i", initiator, s.url("private", credentials)).CombinedOutput()
		if err == nil && !bytes.Contains(out, []byte("RATCHET")) {
			err = fmt.Errorf("%s", out)
		}
		return err
	}
	if err := private(hostName, "host%correct-horse@"); err != nil {
		t.Errorf("the initiator with its secret: %v", err)
	}
	for name, err := range map[string]error{
		"wrong secret":    private(hostName, "host%wrong-battery@"),
		"no secret":       private(hostName, ""),
		"other initiator": private("iqn.2026-01.test:other", "host%correct-horse@"),
	} {
		if err == nil {
			t.Errorf("%s: let in", name)
		}
	}
	for _, port := range []int{iscsiPort, nvmePort} {
		garbage(t, s.m.Forward(port), []byte("GET / HTTP/1.0\r\n\r\n"+strings.Repeat("x", 200)))
	}
	seen(t, "iSCSI: serial number and WWN from the volume; CHAP and ACL refuse wrong secret, no secret, other initiator")
}

// oneWriter: a volume with a target is read-only for NBD clients.
func (s *targetSuite) oneWriter(t *testing.T) {
	out, err := command(within(t, stepLimit), nil, "qemu-io", "-f", "raw", "-c", "write 0 4k", s.m.NBD("open")).CombinedOutput()
	if err == nil && !bytes.Contains(out, []byte("Permission denied")) && !bytes.Contains(out, []byte("read-only")) {
		t.Errorf("a second writer over NBD: %s", out)
	}
	tool(t, nil, "qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", s.m.NBD("open"))
}

// knownFailures of iscsi-test-cu are LIO's own (Linux 6.1): what it does not check, or reports with another sense code.
var knownFailures = []string{
	"CompareAndWrite.Miscompare", "CompareAndWrite.Simple", // sense of a request that is too long
	"ReceiveCopyResults.CopyStatus",
	"Reserve6.ITNexusLoss", "Reserve6.Logout", // a reservation outlives the end of its session for a moment
	"Verify10.Mismatch", "Verify10.VerifyProtect", "Verify16.Mismatch", "Verify16.VerifyProtect", // nothing is compared
	"iSCSIResiduals.Read10Invalid", "iSCSIResiduals.Read10Residuals", "iSCSIResiduals.Read12Residuals", "iSCSIResiduals.Read16Residuals",
	"iSCSIResiduals.Write10Residuals", "iSCSIResiduals.Write12Residuals", "iSCSIResiduals.Write16Residuals",
	"iSCSIResiduals.WriteVerify10Residuals", "iSCSIResiduals.WriteVerify16Residuals", "iSCSIdatasn.iSCSIDataSnInvalid",
}

// conformance runs libiscsi's suites: those that say something about the volume behind LIO, or all of them.
func (s *targetSuite) conformance(t *testing.T) {
	families := []string{
		"Unmap.ZeroBlocks", "Inquiry.Standard", "ReadCapacity16.Simple", "ProutRegister.Simple", "ProutReserve.Simple",
	}
	if !testing.Short() {
		families = []string{""}
	}
	passed, known := 0, 0
	for _, family := range families {
		for name, ok := range s.suite(t, family) {
			switch {
			case ok:
				passed++
			case slices.Contains(knownFailures, name):
				known++
			default:
				t.Errorf("iscsi-test-cu: %s failed", name)
			}
		}
	}
	if passed < len(families) {
		t.Errorf("iscsi-test-cu: only %d tests ran", passed)
	}
	seen(t, "iscsi-test-cu: %d passed, %d known failures of LIO's", passed, known)
}

// suite runs one family of tests and returns how each ended.
func (s *targetSuite) suite(t *testing.T, family string) map[string]bool {
	t.Helper()
	dir := t.TempDir()
	test := strings.TrimSuffix("ALL."+family, ".")
	cmd := command(within(t, 15*time.Minute), nil, "iscsi-test-cu", "--dataloss", "-x", "--test="+test, s.url("open", ""))
	cmd.Dir = dir
	out, ended := cmd.CombinedOutput() // known failures are an exit status of 1
	text, err := os.ReadFile(filepath.Join(dir, "CUnitAutomated-Results.xml"))
	if exitCode(ended) > 1 || err != nil || !bytes.Contains(text, []byte("</CUNIT_TEST_RUN_REPORT>")) {
		t.Fatalf("%s did not get to its end: %v, %v\n%s", test, ended, err, out)
	}
	return results(t, text)
}

// results reads CUnit's report; a test is there once for each assertion that failed.
func results(t *testing.T, text []byte) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	d := xml.NewDecoder(bytes.NewReader(text))
	d.Strict = false
	suite, failed, field := "", false, ""
	for {
		token, err := d.Token()
		if err != nil {
			if len(out) == 0 {
				t.Fatalf("read CUnit's report: %v\n%s", err, text)
			}
			return out
		}
		switch token := token.(type) {
		case xml.StartElement:
			field = token.Name.Local
			if strings.HasPrefix(field, "CUNIT_RUN_TEST_") {
				failed = field == "CUNIT_RUN_TEST_FAILURE"
			}
		case xml.CharData:
			word := strings.TrimSpace(string(token))
			if word == "" {
				continue
			}
			switch field {
			case "SUITE_NAME":
				suite = word
			case "TEST_NAME":
				name := suite + "." + word
				before, known := out[name]
				out[name] = !failed && (before || !known)
			}
		}
	}
}

// copies moves an image in and out over iSCSI.
func (s *targetSuite) copies(t *testing.T) {
	in, out := filepath.Join(s.dir, "in.img"), filepath.Join(s.dir, "out.img")
	p := make([]byte, 16<<20)
	for i := range p {
		p[i] = byte(i * 7 >> 10)
	}
	must(t, os.WriteFile(in, p, 0o600))
	tool(t, nil, "qemu-img", "convert", "-n", "-f", "raw", "--target-image-opts", in, s.options("open"))
	tool(t, nil, "qemu-img", "dd", "-f", "raw", "-O", "raw", "bs=1M", "count=16", "if="+s.url("open", ""), "of="+out)
	got, err := os.ReadFile(out)
	must(t, err)
	if !bytes.Equal(got, p) {
		t.Error("what qemu-img wrote over iSCSI does not read back")
	}
}

// killed holds targets to invariant S5: the same session goes on when the gateway dies, and a FLUSH that succeeds was true.
func (s *targetSuite) killed(t *testing.T) {
	client := openQemuIO(t, s.options("open"))
	kills := 3
	if testing.Short() {
		kills = 1
	}
	var slowest time.Duration
	for i := range kills {
		at := i * 8
		client.does(fmt.Sprintf("write -P %d %dM 2M", i+1, at), "wrote 2097152/2097152")
		for j := range 4 {
			client.does(fmt.Sprintf("aio_write -P %d %dM 1M", i+101, at+2+j), "")
		}
		start := time.Now()
		s.m.ctl("plugin", "restart", "gateway", "--kill")
		client.does("aio_flush", "")
		client.does("flush", "")
		client.does(fmt.Sprintf("read -P %d %dM 2M", i+1, at), "read 2097152/2097152")
		slowest = max(slowest, time.Since(start))
		client.does(fmt.Sprintf("read -P %d %dM 4M", i+101, at+2), "read 4194304/4194304")
	}
	seen(t, "gateway killed %d times under iSCSI writes: the same session flushes and reads its data, at most %d ms later", kills, slowest.Milliseconds())
	// A restart that is planned hands the kernel's connection on.
	for j := range 4 {
		client.does(fmt.Sprintf("aio_write -P 77 %dM 1M", 40+j), "")
	}
	start := time.Now()
	s.m.ctl("plugin", "restart", "gateway")
	client.does("aio_flush", "")
	client.does("read -P 77 40M 4M", "read 4194304/4194304")
	took := time.Since(start)
	if log := s.m.asks("plugin", "logs", "target"); strings.Count(log, "no connection to the gateway") > 3*kills {
		t.Errorf("the kernel noticed a planned restart:\n%s", log)
	}
	seen(t, "planned restart under iSCSI writes: %d ms", took.Milliseconds())
}

// stalled: the gateway takes longer to answer than the kernel waits (nbdlink.RequestTimeout), because what is read is only
// in a store that is away. The kernel gives the connection up and asks again on the next; nothing fails, not even what was
// written on that connection meanwhile.
func (s *targetSuite) stalled(t *testing.T) {
	if testing.Short() {
		return // it takes what the kernel waits
	}
	client := openQemuIO(t, s.options("open"))
	client.does("write -P 12 44M 1M", "wrote 1048576/1048576")
	client.does("flush", "")
	s.m.ctl("volume", "flush", "open")
	s.m.ctl("volume", "evict", "open")
	lost := func() int { return strings.Count(s.m.asks("plugin", "logs", "target"), "no connection to the gateway") }
	before, start := lost(), time.Now()
	s.s3.Stop()
	client.does("aio_read -P 12 44M 1M", "")
	client.does("aio_write -P 13 52M 1M", "")
	await(t, stepLimit, "the kernel to give the connection up", func() (string, bool) {
		now := lost()
		return fmt.Sprint(now, " lost connections"), now > before
	})
	took := time.Since(start)
	var err error
	s.s3, err = s3server.Start(t.Context(), s3server.Options{
		Dir: filepath.Join(s.dir, "s3"), Address: s.s3.Address, Bucket: s.s3.Bucket, AccessKey: s.s3.AccessKey, SecretKey: s.s3.SecretKey,
	})
	must(t, err)
	client.does("aio_flush", "")
	client.does("read -P 12 44M 1M", "read 1048576/1048576")
	client.does("read -P 13 52M 1M", "read 1048576/1048576")
	seen(t, "gateway stalled by its store for %d s under iSCSI, longer than the kernel waits: no request failed", int(took.Seconds()))
}

// companionKilled: nobody notices when the process dies that has set everything up.
func (s *targetSuite) companionKilled(t *testing.T) {
	client := openQemuIO(t, s.options("open"))
	client.does("write -P 5 50M 1M", "wrote 1048576/1048576")
	// A session that is not opened again when it ends, and a registration that is not to be kept through a loss of power.
	const key = 0xfedcba9876543210
	i := logIn(t, s.m.Forward(iscsiPort), hostName, exports.DefaultISCSIBase+":open")
	i.ready()
	i.persistent(prRegister, 0, 0, key, 0)
	for _, how := range [][]string{{"--kill"}, nil} {
		s.m.ctl(append([]string{"plugin", "restart", "target"}, how...)...)
		client.does("read -P 5 50M 1M", "read 1048576/1048576")
		s.exported(t)
		if keys := i.keys(); !slices.Contains(keys, key) {
			t.Errorf("after a restart %v of the process the kernel has the registrations %#x", how, keys)
		}
	}
	i.persistent(prClear, 0, key, 0, 0)
	// What it finds it keeps, and it can still do its work.
	s.m.ctl("plugin", "restart", "gateway", "--kill")
	client.does("write -P 6 51M 1M", "wrote 1048576/1048576")
}

// resized: a volume that grows is a larger disk, in the session that there is.
func (s *targetSuite) resized(t *testing.T) {
	client := openQemuIO(t, s.options("open"))
	client.does("write -P 9 60M 1M", "wrote 1048576/1048576")
	s.m.ctl("volume", "resize", "open", "80MiB")
	await(t, stepLimit, "the disk to have 80 MiB", func() (string, bool) {
		out := tool(t, nil, "iscsi-readcapacity16", s.url("open", ""))
		return out, strings.Contains(out, "Total size:83886080")
	})
	client.does("read -P 9 60M 1M", "read 1048576/1048576")
	bigger := openQemuIO(t, s.options("open"))
	bigger.does("write -P 4 79M 1M", "wrote 1048576/1048576")
	bigger.does("read -P 4 79M 1M", "read 1048576/1048576")
	seen(t, "a volume that grows is a larger disk for iSCSI initiators, without a break")
}

// reservations that an initiator wants kept are there after the power failed.
func (s *targetSuite) reservations(t *testing.T) {
	const key = 0x1234567890abcdef
	target := exports.DefaultISCSIBase + ":open"
	i := logIn(t, s.m.Forward(iscsiPort), hostName, target)
	i.ready()
	i.persistent(prRegister, 0, 0, key, aptpl)
	i.persistent(prReserve, writeExclusive, key, 0, 0)
	s.m.Kill()
	s.boot(t)
	s.m.released("closing") // of the attempts that two volumes grew with
	s.exported(t)
	i = logIn(t, s.m.Forward(iscsiPort), hostName, target)
	i.ready()
	if keys := i.keys(); !slices.Contains(keys, key) {
		t.Errorf("after a power cut the registered keys are %x, want %x", keys, uint64(key))
	}
	if status := i.write(); status != good {
		t.Errorf("the holder of the reservation may not write: status %#x", status)
	}
	other := logIn(t, s.m.Forward(iscsiPort), "iqn.2026-01.test:other", target)
	other.ready()
	if status := other.write(); status != reservationConflict {
		t.Errorf("another initiator writes to a reserved disk: status %#x", status)
	}
	s.m.refused(1, []string{"initiators clear them themselves"}, "volume", "reservations", "clear", "open", "--yes", "--force")
	i.persistent(prClear, 0, key, 0, 0)
	other.ready()
	if status := other.write(); status != good {
		t.Errorf("after the reservation was cleared: status %#x", status)
	}
	seen(t, "persistent reservation kept through a power cut: the holder writes, others do not")
	// Who did what is known behind the power cut, too.
	for _, did := range []string{"Config/Apply", "target/reservations.clear"} {
		if trail := s.m.asks("audit"); !strings.Contains(trail, did) {
			t.Errorf("%q is not in the audit trail:\n%s", did, trail)
		}
	}
}

// fabric: another machine's kernel connects over NVMe/TCP and keeps its disk while the gateway dies. A host that is not
// named does not get in.
func (s *targetSuite) fabric(t *testing.T) {
	dir := filepath.Join(s.dir, "nvmehost")
	g, err := guest.Build(within(t, bootLimit), guest.Options{
		Program: "github.com/ratchetos/ratchet/qemu/nvmehost", Modules: []string{"virtio_pci", "virtio_net", "nvme-tcp"}, Dir: dir,
	})
	must(t, err)
	_, port, err := net.SplitHostPort(s.m.Forward(nvmePort))
	must(t, err)
	host := func(nqn string, d time.Duration) *vm.VM {
		direct := vm.Direct{Kernel: g.Kernel, Initrd: g.Initrd}
		direct.Cmdline = fmt.Sprintf("console=ttyS0 quiet panic=-1 no_timer_check nvme.traddr=10.0.2.2 nvme.trsvcid=%s nvme.nqn=%s:fabric nvme.hostnqn=%s nvme.time=%s",
			port, exports.DefaultNVMeBase, nqn, d)
		m, err := vm.Start(t.Context(), vm.Config{
			Name: "nvmehost", Memory: "256M", CPUs: 1, Firmware: direct, Dir: filepath.Join(dir, "vm"), NoReboot: true, Limit: 5 * time.Minute,
			NICs: []vm.NIC{{Net: vm.User{}}},
		})
		must(t, err)
		t.Cleanup(func() { m.Close() })
		return m
	}
	says := func(m *vm.VM, pattern string) vm.Match {
		t.Helper()
		line, err := m.ExpectLine(within(t, bootLimit), `guest: (?:`+pattern+`|failed: .*)`)
		must(t, err)
		if strings.Contains(line.Groups[0], "failed: ") != strings.HasPrefix(pattern, "failed") {
			t.Fatalf("NVMe host: %s", line.Groups[0])
		}
		return line
	}
	stranger := host(hostNQN+"9", 0)
	says(stranger, "failed: connect as .*")
	must(t, stranger.Close())

	m := host(hostNQN, 30*time.Second)
	u := exports.VolumeUUID(exports.Place{Bucket: s.s3.Bucket, Volume: "fabric"})
	if line := says(m, "connected .*").Groups[0]; !strings.Contains(line, "uuid="+u.String()+" nguid="+u.String()) {
		t.Errorf("identity: %s, want %s", line, u)
	}
	says(m, "verified")
	s.m.ctl("plugin", "restart", "gateway", "--kill")
	s.m.ctl("plugin", "restart", "gateway")
	s.m.ctl("volume", "resize", "fabric", "48MiB")
	endured := says(m, "endured size=98304 flushes=([0-9]+) worst=([0-9a-z.]+)") // sectors: it was told of the new size
	says(m, "done")
	seen(t, "NVMe/TCP: another machine's kernel wrote and flushed %s times while the gateway was killed and restarted and the volume grew, worst operation %s, all of it reads back; another host is refused",
		endured.Groups[1], endured.Groups[2])
}
