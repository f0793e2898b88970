package core

import (
	"os"
	"os/exec"
	"testing"
)

func TestProcesses(t *testing.T) {
	child := exec.Command("cat")
	child.Args[0] = "gateway"
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = child.Wait()
	})
	// Start returns as soon as exec closed its files, before the kernel has set the new command line; once cat answers it is there.
	if _, err := in.Write([]byte{'x'}); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	all := processes(os.Getpid())
	if len(all) == 0 || all[0].GetPid() != int32(os.Getpid()) || all[0].GetPss() == 0 {
		t.Fatalf("processes = %v, want this one first, with its size", all)
	}
	for _, p := range all[1:] {
		if p.GetPid() == int32(child.Process.Pid) {
			if p.GetName() != "gateway" || p.GetParent() != int32(os.Getpid()) || p.GetPss() == 0 {
				t.Errorf("child = %v, want name gateway, our pid as parent, and a size", p)
			}
			return
		}
	}
	t.Errorf("processes = %v, want the child %d in it", all, child.Process.Pid)
}

func TestProcessesOfNobody(t *testing.T) {
	if got := processes(1 << 30); len(got) != 0 {
		t.Errorf("processes of a pid that does not exist = %v", got)
	}
}
