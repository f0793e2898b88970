# Asks a server for everything that libnbd knows, in the manner of libnbd's own tests. `h` and `uri` come from nbdsh.
import nbd, errno, os

MiB = 1 << 20

def fails(what, *numbers):
    try:
        what()
    except nbd.Error as e:
        assert e.errnum in numbers, "%s, want %s" % (e, numbers)
        return
    assert False, "no error"

# Options one by one, before an export is chosen.
h.set_opt_mode(True)
h.add_meta_context("base:allocation")
h.add_meta_context("ratchet:state")
h.connect_uri(uri)
assert h.aio_is_negotiating()
assert h.get_protocol() == "newstyle-fixed"
seen = []
assert h.opt_list(lambda name, text: seen.append((name, text))) == 1 and seen == [("vol", "a test volume")]
seen = []
h.opt_list_meta_context(lambda name: seen.append(name))
assert seen == ["base:allocation", "ratchet:state"], seen
h.set_export_name("nothing")
fails(lambda: h.opt_info(), errno.ENOENT)
h.set_full_info(True)
h.set_export_name("vol")
h.opt_info()
assert h.get_size() == 64 * MiB and h.get_canonical_export_name() == "vol" and h.get_export_description() == "a test volume"
h.opt_go()
assert h.aio_is_ready()
assert h.get_structured_replies_negotiated()
assert h.can_meta_context("base:allocation") and h.can_meta_context("ratchet:state") and not h.can_meta_context("base:nothing")
for can in h.can_flush, h.can_fua, h.can_trim, h.can_zero, h.can_fast_zero, h.can_multi_conn, h.can_df, h.can_cache:
    assert can(), can
assert not h.is_read_only() and not h.is_rotational()
assert h.get_block_size(nbd.SIZE_PREFERRED) == 4096 and h.get_block_size(nbd.SIZE_MAXIMUM) == 32 * MiB

# What libnbd itself would not send.
h.set_strict_mode(h.get_strict_mode() & ~(nbd.STRICT_BOUNDS | nbd.STRICT_FLAGS | nbd.STRICT_COMMANDS | nbd.STRICT_ZERO_SIZE | nbd.STRICT_ALIGN))
fails(lambda: h.pread(512, 64 * MiB), errno.EINVAL)
fails(lambda: h.pwrite(b"x" * 512, 64 * MiB), errno.ENOSPC)
fails(lambda: h.zero(512, 64 * MiB), errno.ENOSPC)
fails(lambda: h.trim(512, 64 * MiB), errno.EINVAL)
fails(lambda: h.trim(512, 0, nbd.CMD_FLAG_NO_HOLE), errno.EINVAL)
assert h.pread(0, 0) == b""
h.pwrite(b"", 0)
h.zero(0, 0)
assert h.pread(512, 0) == bytes(512) # none of that ended the connection

# Every command with every flag that it may carry.
data = os.urandom(MiB)
h.pwrite(data, 12345)
h.pwrite(data, 3 * MiB, nbd.CMD_FLAG_FUA)
h.flush()
assert h.pread(len(data), 12345) == data and h.pread(len(data), 3 * MiB) == data
h.zero(4096, 3 * MiB)
h.zero(4096, 3 * MiB + 4096, nbd.CMD_FLAG_NO_HOLE)
h.zero(4096, 3 * MiB + 8192, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_FAST_ZERO)
h.trim(4096, 3 * MiB + 12288, nbd.CMD_FLAG_FUA)
assert h.pread(MiB, 3 * MiB) == bytes(16384) + data[16384:]
h.cache(MiB, 0)

# Chunks of a read: holes and data, or with DF one chunk.
def chunks(flags):
    got = []
    def chunk(buf, off, status, err):
        assert err.value == 0
        got.append((status, off, len(buf) if status == nbd.READ_DATA else None))
    assert len(h.pread_structured(MiB, 8 * MiB - MiB // 2, chunk, flags)) == MiB
    return sorted(got, key=lambda c: c[1])
h.pwrite(data, 8 * MiB)
got = chunks(0)
kinds = [c[0] for c in got]
# A long reply may have its data in several chunks.
assert kinds[0] == nbd.READ_HOLE and set(kinds[1:]) == {nbd.READ_DATA}, got
got = chunks(nbd.CMD_FLAG_DF)
assert [c[0] for c in got] == [nbd.READ_DATA], got

# Both contexts in one answer; with REQ_ONE one extent of each.
def status(n, off, flags=0):
    got = {}
    def extent(context, at, entries, err):
        assert at == off and err.value == 0 and context not in got
        got[context] = entries
    h.block_status(n, off, extent, flags)
    assert sorted(got) == ["base:allocation", "ratchet:state"], got
    return got
for flags, count in (0, 3), (nbd.CMD_FLAG_REQ_ONE, 1):
    got = status(3 * MiB, 7 * MiB, flags)
    assert all(len(e) == 2 * count for e in got.values()), got
    assert got["base:allocation"][1] == nbd.STATE_HOLE | nbd.STATE_ZERO and got["ratchet:state"][1] == 8

# Many requests in flight, answered in any order.
bufs = []
def done(err):
    assert err.value == 0
    return 1
for i in range(64):
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i + 1]) * 65536), (16 << 20) + i * 65536, completion=done)
h.aio_flush(completion=done)
while h.aio_in_flight() > 0:
    h.poll(-1)
for i in range(64):
    b = nbd.Buffer(65536)
    bufs.append(b)
    h.aio_pread(b, (16 << 20) + i * 65536, completion=done)
while h.aio_in_flight() > 0:
    h.poll(-1)
for i, b in enumerate(bufs):
    assert b.to_bytearray() == bytearray([i + 1]) * 65536, i

# The largest requests.
big = os.urandom(32 * MiB)
h.pwrite(big, 32 * MiB)
assert h.pread(32 * MiB, 32 * MiB) == big
h.shutdown()

# A client that gives up politely, and one that wants nothing modern.
g = nbd.NBD()
g.set_opt_mode(True)
g.connect_uri(uri)
g.opt_abort()
g = nbd.NBD()
g.set_request_structured_replies(False)
g.set_handshake_flags(0)
g.connect_uri(uri)
assert not g.get_structured_replies_negotiated() and g.pread(MiB, 8 * MiB) == data
fails(lambda: g.pread(MiB, 8 * MiB, nbd.CMD_FLAG_DF), errno.EINVAL)
g.shutdown()
