package ctl

import (
	"fmt"
	"net"
	"strings"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

// targetWays are the ways over the kernel's targets. Where a target names its clients, the client's own name has to be
// one of them.
func targetWays(t api.Target, portal string) []way {
	host, port, _ := net.SplitHostPort(portal)
	if t.Protocol == "nvme" {
		return []way{
			{"Linux over NVMe/TCP (apt-get install nvme-cli); " + clients(t, "the host is known by /etc/nvme/hostnqn"), []string{
				"sudo modprobe nvme-tcp",
				fmt.Sprintf("sudo nvme connect -t tcp -a %s -s %s -n %s --ctrl-loss-tmo=-1", host, port, t.Name),
			}},
			{"Linux over NVMe/TCP, to let go", []string{"sudo nvme disconnect -n " + t.Name}},
			{"VMware ESXi 7 and newer over NVMe/TCP, with the software adapter vmhba64", []string{
				fmt.Sprintf("esxcli nvme fabrics connect -a vmhba64 -i %s -p %s -s %s", host, port, t.Name),
			}},
		}
	}
	linux := []string{fmt.Sprintf("sudo iscsiadm -m node -T %s -p %s -o new", t.Name, portal)}
	windows := []string{fmt.Sprintf("New-IscsiTargetPortal -TargetPortalAddress %s -TargetPortalPortNumber %s", host, port)}
	connect := fmt.Sprintf("Connect-IscsiTarget -NodeAddress %s -IsPersistent $true", t.Name)
	vmware := []string{fmt.Sprintf("esxcli iscsi adapter discovery statictarget add -A vmhba64 -a %s -n %s", portal, t.Name)}
	if t.CHAP {
		linux = append(linux,
			fmt.Sprintf("sudo iscsiadm -m node -T %s -p %s -o update -n node.session.auth.authmethod -v CHAP", t.Name, portal),
			fmt.Sprintf("sudo iscsiadm -m node -T %s -p %s -o update -n node.session.auth.username -v USER", t.Name, portal),
			fmt.Sprintf("sudo iscsiadm -m node -T %s -p %s -o update -n node.session.auth.password -v SECRET", t.Name, portal))
		connect += " -AuthenticationType ONEWAYCHAP -ChapUsername USER -ChapSecret SECRET"
		vmware = append(vmware, fmt.Sprintf("esxcli iscsi adapter target portal auth chap set -A vmhba64 -a %s -n %s -d uni -l required -N USER -S SECRET", portal, t.Name))
	}
	return []way{
		{
			"Linux over iSCSI (apt-get install open-iscsi); " + clients(t, "the initiator is known by /etc/iscsi/initiatorname.iscsi"),
			append(linux, fmt.Sprintf("sudo iscsiadm -m node -T %s -p %s --login", t.Name, portal)),
		},
		{"Linux over iSCSI, to let go", []string{fmt.Sprintf("sudo iscsiadm -m node -T %s -p %s --logout", t.Name, portal)}},
		{"Windows (PowerShell as administrator); " + clients(t, "the initiator is known by (Get-InitiatorPort).NodeAddress"), append(windows, connect)},
		{
			"VMware ESXi, with the software adapter vmhba64; " + clients(t, "the initiator is known by its IQN there"),
			append(vmware, "esxcli storage core adapter rescan -A vmhba64"),
		},
	}
}

func clients(t api.Target, where string) string {
	if len(t.Clients) == 0 {
		return "any client may connect"
	}
	return where + ", which has to be " + strings.Join(t.Clients, " or ")
}
