package decap

//go:generate sh ../generate.sh decap -type counter -type prefix
