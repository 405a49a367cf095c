// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"nodegadget.dev/pkg/pidns"
)

// fileName is that of the open file that the program looks at. Files of the
// machine won't do: overlays show other inode numbers than their inodes have.
const fileName = "nodegadget-witness"

// subject is the calling thread, with two open files.
type subject struct {
	file, socket descriptor
	// port is 0 if the socket could not get one.
	port   int
	parent int
}

// descriptor is an open file of which the number matters. The zero value is none.
type descriptor struct {
	number int
	open   bool
}

func newSubject() (*subject, error) {
	s := &subject{}
	fd, err := unix.MemfdCreate(fileName, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a file for the witness to look at: %w", err)
	}
	s.file = descriptor{number: fd, open: true}
	// Without networks, or with the loopback device down, these facts stay unchecked.
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return s, nil
	}
	s.socket = descriptor{number: fd, open: true}
	if unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}) != nil {
		return s, nil
	}
	if name, err := unix.Getsockname(fd); err == nil {
		if inet, ok := name.(*unix.SockaddrInet4); ok {
			s.port = inet.Port
		}
	}
	return s, nil
}

func (s *subject) close() {
	for _, d := range []descriptor{s.file, s.socket} {
		if d.open {
			unix.Close(d.number)
		}
	}
}

// truth is what is known of the thread by other ways than its types. Some of it
// the program got from helpers, which don't depend on types either.
func (s *subject) truth(got *report) map[fact]string {
	truth := map[fact]string{
		factPID:      number(got.PidTgid & 0xffffffff),
		factTGID:     number(got.PidTgid >> 32),
		factComm:     text(got.CurrentComm[:]),
		factUID:      number(got.UIDGid & 0xffffffff),
		factCgroup:   number(got.Cgroup),
		factFileName: text([]byte("memfd:" + fileName)),
	}
	if first, err := pidns.First(); err == nil && first {
		truth[factParent] = strconv.Itoa(s.parent)
	}
	if ns, ok := inode("/proc/thread-self/ns/mnt"); ok {
		truth[factMountNS] = number(ns)
	}
	if ns, ok := inode("/proc/thread-self/ns/net"); ok {
		truth[factNetworkNS] = number(ns)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		truth[factRelease] = text(name.Release[:])
	}
	stat := threadStat()
	if start, ok := stat[22]; ok && clockIsShared() {
		truth[factStart] = start
	}
	// It is 0 for who may not see it.
	if args, ok := stat[48]; ok && args != "0" {
		truth[factArgs] = args
	}
	s.addFiles(truth)
	return truth
}

func (s *subject) addFiles(truth map[fact]string) {
	var stat unix.Stat_t
	if unix.Fstat(s.file.number, &stat) == nil {
		truth[factFileInode] = number(stat.Ino)
	}
	if s.socket.open {
		truth[factSocketFamily] = strconv.Itoa(unix.AF_INET)
	}
	if s.port != 0 {
		truth[factSocketPort] = strconv.Itoa(s.port)
	}
}

func inode(path string) (uint64, bool) {
	var stat unix.Stat_t
	err := unix.Stat(path, &stat)
	return stat.Ino, err == nil
}

// threadStat has the fields of /proc/thread-self/stat by the numbers of proc(5),
// from the third on: what stands before may hold any character.
func threadStat() map[int]string {
	content, err := os.ReadFile("/proc/thread-self/stat")
	if err != nil {
		return nil
	}
	_, after, _ := strings.Cut(string(content[strings.LastIndexByte(string(content), ')')+1:]), " ")
	fields := map[int]string{}
	for i, field := range strings.Fields(after) {
		fields[i+3] = field
	}
	return fields
}

// clockIsShared says whether boot time is the kernel's own, not that of a time namespace.
func clockIsShared() bool {
	content, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return os.IsNotExist(err)
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "boottime" {
			return fields[1] == "0" && fields[2] == "0"
		}
	}
	return false
}
