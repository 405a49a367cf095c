{{/* Labels of every object. Call with the component's name and the root. */}}
{{- define "nodegadget.labels" -}}
{{ include "nodegadget.selector" . }}
app.kubernetes.io/part-of: nodegadget
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- if eq .root.Release.Service "Helm" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What selects a component's pods. The plugin finds the controller by it. */}}
{{- define "nodegadget.selector" -}}
app.kubernetes.io/name: nodegadget
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of a component's pods: without versions, so that pods of which nothing else
     changes aren't replaced. */}}
{{- define "nodegadget.podLabels" -}}
{{ include "nodegadget.selector" . }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Metadata of an object: component, name, root; cluster for one without a namespace. */}}
{{- define "nodegadget.metadata" -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "nodegadget.labels" . | nindent 2 }}
{{- end }}

{{- define "nodegadget.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{ .image.repository }}:{{ $tag }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Pools in their order, each with all of its settings, and last the one for the
     remaining nodes. A digest is that of one tag: who names another has another. */}}
{{- define "nodegadget.pools" -}}
{{- $defaults := merge (dict "image" .Values.image) (omit .Values.agent "pools") -}}
{{- $pools := list -}}
{{- range .Values.agent.pools -}}
{{- $pool := mergeOverwrite (deepCopy $defaults) (deepCopy .) -}}
{{- $image := .image | default dict -}}
{{- if or $image.repository $image.tag -}}
{{- $_ := set $pool.image "digest" ($image.digest | default "") -}}
{{- end -}}
{{- $pools = append $pools $pool -}}
{{- end -}}
{{- append $pools (merge (dict "name" "") $defaults) | toYaml -}}
{{- end }}

{{/* Terms that match the nodes which no pool of a list of selectors selects. A selector
     is an AND of labels, so not to be selected is to lack one of them; for several
     pools that makes a term for each way to choose one label of each. */}}
{{- define "nodegadget.outside" -}}
{{- $terms := list (dict "matchExpressions" list) -}}
{{- range $selector := . -}}
{{- $longer := list -}}
{{- range $term := $terms -}}
{{- range $key, $value := $selector -}}
{{- $lacks := dict "key" $key "operator" "NotIn" "values" (list $value) -}}
{{- $longer = append $longer (dict "matchExpressions" (append $term.matchExpressions $lacks)) -}}
{{- end -}}
{{- end -}}
{{- $terms = $longer -}}
{{- if gt (len $terms) 64 -}}
{{- fail "agent.pools: too many labels to tell nodes apart; select each pool's nodes by one label of their own" -}}
{{- end -}}
{{- end -}}
{{ toYaml $terms }}
{{- end }}

{{- define "nodegadget.capabilities" -}}
{{- $all := .capabilities -}}
{{- if .legacyKernels }}{{ $all = append $all "SYS_ADMIN" }}{{ end -}}
{{ $all | uniq | toYaml }}
{{- end }}

{{- define "nodegadget.seLinuxType" -}}
{{ .pool.seLinuxType | default (ternary "spc_t" "" .root.Values.openshift.enabled) }}
{{- end }}

{{/* The node's directory with the runtime's socket. */}}
{{- define "nodegadget.runtimeDir" -}}
{{ with .runtime.socket }}{{ dir . }}{{ else }}/run{{ end }}
{{- end }}

{{/* What submounts of a read-only mount would escape, where Kubernetes can say so. */}}
{{- define "nodegadget.readOnly" -}}
readOnly: true
{{- if semverCompare ">=1.33-0" .Capabilities.KubeVersion.Version }}
recursiveReadOnly: IfPossible
{{- end }}
{{- end }}

{{/* The token for the API server and what belongs to it, as Kubernetes would mount it.
     The name of the volume is "api". */}}
{{- define "nodegadget.apiToken" -}}
- name: api
  projected:
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end }}

{{- define "nodegadget.controllerAddress" -}}
{{ .Values.controller.address | default (printf "nodegadget-controller.%s.svc:8443" .Release.Namespace) }}
{{- end }}

{{- define "nodegadget.pullSecrets" -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}

{{/* Who may read metrics, as a rule of a NetworkPolicy. */}}
{{- define "nodegadget.metricsRule" -}}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    - port: http
{{- end }}

{{/* Security context of a container that needs nothing: PodSecurity level "restricted". */}}
{{- define "nodegadget.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- if not .Values.openshift.enabled }}
# The image's user is the agent's, root.
runAsUser: 65532
runAsGroup: 65532
{{- end }}
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}
