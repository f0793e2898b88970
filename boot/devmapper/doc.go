// Package devmapper maps the data of an encrypted volume to a block device, over the kernel's
// device-mapper.
//
// Purpose. init opens STATE and DATA with it; boot/luks says with which key and where the data starts. It
// does what cryptsetup and libdevmapper do for one kind of target: create a device, load a table of one
// crypt target, resume it.
//
// The key goes through the calling thread's keyring (type "logon", which nobody can read back) and not
// through the table: root can read tables, and core and whoever takes it over is root. It is removed from
// the keyring once dm-crypt has its copy.
//
// Lifetime. A mapping stays until it is removed or the machine stops; core inherits it from init. A failed
// Open leaves none behind.
//
// Concurrency. The kernel serialises; Open may be called from several goroutines for different names.
//
// Needed of the kernel: the modules dm_mod, dm_crypt and xts, a device /dev/mapper/control, and devtmpfs,
// which makes /dev/dm-N. There is no udev: the link under /dev/mapper is made here.
//
// Source: include/uapi/linux/dm-ioctl.h, Documentation/admin-guide/device-mapper/dm-crypt.rst.
package devmapper
