// Package sandbox confines a plugin process by what its descriptor declares and the
// configuration grants, and by nothing more.
//
// Half of it is done by core at the start of the process, so that the plugin's own code
// has no say in it: a user id of its own, the granted capabilities as ambient ones and all
// others gone ([Launch]), a cgroup with limits on memory and processes ([Cgroup]).
//
// The other half is done by the plugin process to itself before it serves, because it must
// hold for every thread and cost no second exec: no_new_privs and a seccomp deny list
// ([Profile.Confine]), and, as soon as the handles are known, landlock
// ([Profile.ConfineFiles]): everything is readable, only the directories that were handed
// out are writable.
//
// Every part is best effort towards the kernel and strict towards the program: a kernel
// without landlock or cgroup v2 runs the plugin without it, a step that the kernel has but
// refuses is an error. As an ordinary user on a workstation only the second half applies.
//
// Sources: seccomp(2), capabilities(7), landlock(7), the kernel's
// Documentation/admin-guide/cgroup-v2.rst.
package sandbox
