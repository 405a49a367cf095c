// SPDX-License-Identifier: Apache-2.0

// Package charts holds the Helm chart that installs nodegadget, so that the
// plugin installs exactly what `helm install` does.
package charts

import (
	"embed"
	"io/fs"
)

//go:generate go run ../hack/gadgetvars nodegadget/files/gadgets.yaml
//go:generate go run ../hack/renderconfig nodegadget ../config

// The prefix "all:" takes in templates/_helpers.tpl and .helmignore.
//
//go:embed all:nodegadget
var files embed.FS

// Nodegadget is the chart's directory: Chart.yaml is at its root.
func Nodegadget() fs.FS {
	dir, err := fs.Sub(files, "nodegadget")
	if err != nil {
		// Only a path that isn't valid can fail.
		panic(err)
	}
	return dir
}
