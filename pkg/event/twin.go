// SPDX-License-Identifier: Apache-2.0

package event

import (
	"strconv"
)

// named appends the name of number n, or prefix and n where it has none.
func (c *Column) named(names []string, n uint64, prefix string) Value {
	c.scratch = c.scratch[:0]
	if n < uint64(len(names)) && names[n] != "" {
		c.scratch = append(c.scratch, names[n]...)
	} else {
		c.scratch = append(c.scratch, prefix...)
		c.scratch = strconv.AppendUint(c.scratch, n, 10)
	}
	return Value{Kind: Text, Text: c.scratch}
}

func readErrno(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	if number(b) == 0 {
		return Value{Kind: Text}
	}
	return c.named(errnoNames[:], number(b), "E")
}

func readSignal(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	const realtime = 34
	if n := number(b); n >= realtime && n <= 64 {
		c.scratch = append(c.scratch[:0], "SIGRTMIN"...)
		if n > realtime {
			c.scratch = append(c.scratch, '+')
			c.scratch = strconv.AppendUint(c.scratch, n-realtime, 10)
		}
		return Value{Kind: Text, Text: c.scratch}
	}
	return c.named(signalNames[:], number(b), "SIG")
}

func readSyscall(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	names := syscallNamesAMD64[:]
	if c.arch == "arm64" {
		names = syscallNamesARM64[:]
	}
	return c.named(names, number(b), "syscall_")
}

func readMode(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	c.scratch = c.scratch[:0]
	mode := number(b) & 0o7777
	for limit := uint64(0o1000); mode < limit; limit >>= 3 {
		c.scratch = append(c.scratch, '0')
		if limit == 1 {
			break
		}
	}
	if mode > 0 {
		c.scratch = strconv.AppendUint(c.scratch, mode, 8)
	}
	return Value{Kind: Text, Text: c.scratch}
}

// flag is one bit, or several, of open(2)'s flags.
type flag struct {
	bits uint64
	name string
}

// openFlags are those that both architectures share
// (include/uapi/asm-generic/fcntl.h); those with several bits come first.
var openFlags = []flag{
	{0o4010000, "O_SYNC"},
	{0o100, "O_CREAT"},
	{0o200, "O_EXCL"},
	{0o400, "O_NOCTTY"},
	{0o1000, "O_TRUNC"},
	{0o2000, "O_APPEND"},
	{0o4000, "O_NONBLOCK"},
	{0o10000, "O_DSYNC"},
	{0o20000, "O_ASYNC"},
	{0o1000000, "O_NOATIME"},
	{0o2000000, "O_CLOEXEC"},
	{0o10000000, "O_PATH"},
}

// The four flags whose bits arm64 has assigned otherwise
// (arch/arm64/include/uapi/asm/fcntl.h). O_TMPFILE contains O_DIRECTORY.
var (
	openFlagsAMD64 = []flag{
		{0o20200000, "O_TMPFILE"},
		{0o40000, "O_DIRECT"},
		{0o100000, "O_LARGEFILE"},
		{0o200000, "O_DIRECTORY"},
		{0o400000, "O_NOFOLLOW"},
	}
	openFlagsARM64 = []flag{
		{0o20040000, "O_TMPFILE"},
		{0o200000, "O_DIRECT"},
		{0o400000, "O_LARGEFILE"},
		{0o40000, "O_DIRECTORY"},
		{0o100000, "O_NOFOLLOW"},
	}
)

func readOpenFlags(c *Column, record []byte) Value {
	b := c.slice(record)
	if b == nil {
		return Value{}
	}
	rest := number(b)
	c.scratch = append(c.scratch[:0], [...]string{"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"}[rest&3]...)
	rest &^= 3
	special := openFlagsAMD64
	if c.arch == "arm64" {
		special = openFlagsARM64
	}
	for _, flags := range [...][]flag{special, openFlags} {
		for _, f := range flags {
			if rest&f.bits == f.bits {
				c.scratch = append(c.scratch, '|')
				c.scratch = append(c.scratch, f.name...)
				rest &^= f.bits
			}
		}
	}
	if rest != 0 {
		c.scratch = append(c.scratch, "|0x"...)
		c.scratch = strconv.AppendUint(c.scratch, rest, 16)
	}
	return Value{Kind: Text, Text: c.scratch}
}
