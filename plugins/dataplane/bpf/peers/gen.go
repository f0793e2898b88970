package peers

//go:generate sh ../generate.sh peers
