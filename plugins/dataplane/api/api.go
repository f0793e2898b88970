// Package api holds the requests and replies of the dataplane's own management calls (core's Invoke), as JSON.
package api

// MethodLinks lists the links. Its request is empty, its reply LinksReply.
const MethodLinks = "links.list"

// LinksReply answers MethodLinks, in the order of the configuration.
type LinksReply struct {
	Links []Link `json:"links"`
}

// Link is one configured link.
type Link struct {
	NIC       string   `json:"nic"` // stable id
	Name      string   `json:"name,omitempty"`
	Present   bool     `json:"present"`
	Up        bool     `json:"up"`
	Carrier   bool     `json:"carrier"`
	MTU       uint32   `json:"mtu,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	Routes    []string `json:"routes,omitempty"`
	// Problem is why the link is not as configured.
	Problem   string `json:"problem,omitempty"`
	RxBytes   uint64 `json:"rx_bytes"`
	TxBytes   uint64 `json:"tx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	TxPackets uint64 `json:"tx_packets"`
	RxErrors  uint64 `json:"rx_errors"`
	TxErrors  uint64 `json:"tx_errors"`
	RxDropped uint64 `json:"rx_dropped"`
	TxDropped uint64 `json:"tx_dropped"`
}
