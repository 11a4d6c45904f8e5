{{- define "dittofs-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "dittofs-operator.identity" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The operator's pods, and not the one that helm test starts. */}}
{{- define "dittofs-operator.selector" -}}
{{ include "dittofs-operator.identity" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "dittofs-operator.labels" -}}
{{ include "dittofs-operator.identity" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of an object: `name` or what ends in `suffix`, and its own `annotations` and `labels`. */}}
{{- define "dittofs-operator.metadata" -}}
{{- $root := .root -}}
name: {{ .name | default (printf "%s%s" (include "dittofs-operator.fullname" $root) (.suffix | default "")) }}
{{- if .namespace }}
namespace: {{ .namespace }}
{{- end }}
labels:
  {{- include "dittofs-operator.labels" $root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) $root.Values.commonAnnotations }}
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
