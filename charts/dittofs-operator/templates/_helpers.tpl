{{- define "dittofs-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* By toYaml, which quotes a release name that YAML would take for a number. */}}
{{- define "dittofs-operator.identity" -}}
{{ dict "app.kubernetes.io/name" .Chart.Name "app.kubernetes.io/instance" .Release.Name | toYaml }}
{{- end -}}

{{/* The operator's pods, and not the one that helm test starts. */}}
{{- define "dittofs-operator.selector" -}}
{{ include "dittofs-operator.identity" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* The labels that the chart gives every object. Values cannot replace them: selectors and Helm rely on them. */}}
{{- define "dittofs-operator.labels" -}}
{{ include "dittofs-operator.identity" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
The metadata of an object: `name` or what ends in `suffix`, and its own `annotations` and `labels`. These win over the common
ones, and the chart's labels over all. Of the common annotations those in `without` are left out.
*/}}
{{- define "dittofs-operator.metadata" -}}
{{- $root := .root -}}
{{- $common := $root.Values.commonAnnotations | default dict -}}
{{- range .without -}}
{{- $common = omit $common . -}}
{{- end -}}
name: {{ .name | default (printf "%s%s" (include "dittofs-operator.fullname" $root) (.suffix | default "")) }}
{{- if .namespace }}
namespace: {{ .namespace }}
{{- end }}
labels:
  {{- $labels := include "dittofs-operator.labels" $root | fromYaml }}
  {{- merge $labels (.labels | default dict) ($root.Values.commonLabels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) $common }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "dittofs-operator.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* Whatever answers at port 443 of a node is not asked for an image that was to be loaded into the node. */}}
{{- define "dittofs-operator.pullPolicy" -}}
{{- $default := ternary "Never" "IfNotPresent" (hasPrefix "localhost/" .Values.image.repository) -}}
{{ .Values.image.pullPolicy | default $default }}
{{- end -}}

{{- define "dittofs-operator.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "dittofs-operator.fullname" .) }}
{{- end -}}

{{/* The Secret that the operator does not make itself; empty where it does. */}}
{{- define "dittofs-operator.givenSecret" -}}
{{- if eq .Values.certificates.provider "cert-manager" -}}
{{ include "dittofs-operator.fullname" . }}-serving-cert
{{- else if eq .Values.certificates.provider "secret" -}}
{{ required "certificates.secretName must name a Secret when certificates.provider is secret" .Values.certificates.secretName }}
{{- end -}}
{{- end -}}
