{{- define "dittofs-operator.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "dittofs-operator.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
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

{{/*
The image without its tag. A registry replaces "localhost", which is none. That for all charts is not for an image whose first part
is the host of another registry, but one for this image is: a mirror may have it below the name of its origin.
*/}}
{{- define "dittofs-operator.repository" -}}
{{- $repository := .Values.image.repository -}}
{{- $shared := (.Values.global).imageRegistry | default "" -}}
{{- if regexMatch "^[^/]*[.:][^/]*/" $repository -}}
{{- $shared = "" -}}
{{- end -}}
{{- with .Values.image.registry | default $shared -}}
{{ trimSuffix "/" . }}/{{ trimPrefix "localhost/" $repository }}
{{- else -}}
{{ $repository }}
{{- end -}}
{{- end -}}

{{- define "dittofs-operator.image" -}}
{{ include "dittofs-operator.repository" . }}
{{- with .Values.image -}}
{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* As YAML, or nothing. Platforms name those for all charts with and without the key `name`. */}}
{{- define "dittofs-operator.pullSecrets" -}}
{{- $secrets := .Values.imagePullSecrets | default list -}}
{{- range (.Values.global).imagePullSecrets -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- with uniq $secrets -}}
{{ toYaml . }}
{{- end -}}
{{- end -}}

{{/* Whatever answers at port 443 of a node is not asked for an image that was to be loaded into the node. */}}
{{- define "dittofs-operator.pullPolicy" -}}
{{- $default := ternary "Never" "IfNotPresent" (hasPrefix "localhost/" (include "dittofs-operator.repository" .)) -}}
{{ .Values.image.pullPolicy | default $default }}
{{- end -}}

{{- define "dittofs-operator.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "dittofs-operator.fullname" .) }}
{{- end -}}

{{/*
"true", or nothing where the value is false. `helm upgrade --reuse-values` renders the chart without the values that an earlier
version did not have: a template that reads one of these names its default.
*/}}
{{- define "dittofs-operator.serverMetrics" -}}
{{- if hasKey .Values "serverMetrics" | ternary .Values.serverMetrics true -}}
true
{{- end -}}
{{- end -}}

{{/* The Secret that the operator does not make itself; empty where it does. */}}
{{- define "dittofs-operator.givenSecret" -}}
{{- if eq .Values.certificates.provider "cert-manager" -}}
{{ include "dittofs-operator.fullname" . }}-serving-cert
{{- else if eq .Values.certificates.provider "secret" -}}
{{ required "certificates.secretName must name a Secret when certificates.provider is secret" .Values.certificates.secretName }}
{{- end -}}
{{- end -}}

{{/* Fails for values that do not go together, and says which. */}}
{{- define "dittofs-operator.validate" -}}
{{- $values := .Values -}}
{{- if and $values.reconcile (not $values.leaderElect) (gt (int $values.replicas) 1) -}}
{{- fail "leaderElect may be false only with replicas 1 or 0, or with reconcile false: several replicas would write at the same time" -}}
{{- end -}}
{{- if not (or $values.serviceAccount.create $values.serviceAccount.name) -}}
{{- fail "serviceAccount.name must name an existing ServiceAccount when serviceAccount.create is false" -}}
{{- end -}}
{{- if eq (int $values.webhook.port) (int $values.health.port) -}}
{{- fail "webhook.port and health.port must differ: one process listens on both" -}}
{{- end -}}
{{- if and (eq ($values.image.pullPolicy | default "") "Always") (hasPrefix "localhost/" (include "dittofs-operator.repository" .)) -}}
{{- fail "image.pullPolicy cannot be Always with image.repository localhost/...: no registry has such an image; name a registry's, or leave the policy empty" -}}
{{- end -}}
{{- if and $values.reconcile (not $values.leaderElect) (eq ($values.strategy).type "RollingUpdate") -}}
{{- fail "strategy.type may be RollingUpdate only with leaderElect true, or with reconcile false: the next pod would write before the previous one has stopped" -}}
{{- end -}}
{{- if and (eq ($values.strategy).type "Recreate") ($values.strategy).rollingUpdate -}}
{{- fail "strategy.rollingUpdate has no meaning with strategy.type Recreate" -}}
{{- end -}}
{{- if and (eq ($values.dnsPolicy | default "") "None") (not ($values.dnsConfig).nameservers) -}}
{{- fail "dnsConfig.nameservers must name a DNS server with dnsPolicy None" -}}
{{- end -}}
{{- if and $values.prometheusRule.enabled (not (or $values.serviceMonitor.enabled ($values.podMonitor).enabled $values.prometheusRule.job)) -}}
{{- fail "prometheusRule.enabled needs serviceMonitor.enabled or podMonitor.enabled, or prometheusRule.job: the label job of the metrics when Prometheus scrapes them by other means; without metrics an alert would fire forever" -}}
{{- end -}}
{{- end -}}
