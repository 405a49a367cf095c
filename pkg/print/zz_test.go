package print_test
import ("testing";"nodegadget.dev/pkg/print")
func BenchmarkZ(b *testing.B){
 for _, f := range [][]string{{"timestamp"},{"pid"},{"pid","tid","uid","gid"},{"pid","tid","uid","gid","cgroup_id","mntns_id","flags","mode"},{"comm"},{"path"},{"path","full_path"},{"flags_names"},{"mode_octal"},{"error"},{"fd"},{"path_from"}} {
  n := f[0]; if len(f)>1 { n += string('0'+byte(len(f))) }
  b.Run(n, func(b *testing.B){ benchmark(b, print.Options{Mode: print.JSON, Fields: f}) })
 }
}
