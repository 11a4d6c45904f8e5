{{/*
What asks the API server to admit a DittoServer, as a dry run: `helm test`, and the hook that waits until that works. `root` has the
values, `component` becomes the end of the names, and `annotations` are those of a hook.
*/}}

{{/* The namespace of the DittoServer; the operator may be confined to others than its own. */}}
{{- define "dittofs-operator.reviewNamespace" -}}
{{ first (append (.Values.namespaces | default list) (include "dittofs-operator.namespace" .)) }}
{{- end -}}

{{/* The metadata of the objects in the operator's namespace. A common label must not make one of them a pod of the operator. */}}
{{- define "dittofs-operator.reviewMetadata" -}}
{{- $labels := dict "app.kubernetes.io/component" .component -}}
{{- $namespace := .namespace | default (include "dittofs-operator.namespace" .root) -}}
{{- $metadata := dict "root" .root "suffix" (print "-" .component) "labels" $labels "namespace" $namespace -}}
{{ include "dittofs-operator.metadata" (merge (dict "annotations" .annotations) $metadata) }}
{{- end -}}

{{/* A ServiceAccount that may create DittoServers; the API server wants this permission for a dry run as well. */}}
{{- define "dittofs-operator.reviewAccount" -}}
{{- $name := printf "%s-%s" (include "dittofs-operator.fullname" .root) .component }}
{{- $in := merge (dict "namespace" (include "dittofs-operator.reviewNamespace" .root)) . }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "dittofs-operator.reviewMetadata" . | nindent 2 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "dittofs-operator.reviewMetadata" $in | nindent 2 }}
rules:
- apiGroups: [dittofs.dittofs.com]
  resources: [dittoservers]
  verbs: [create]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "dittofs-operator.reviewMetadata" $in | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
- kind: ServiceAccount
  name: {{ $name }}
  namespace: {{ include "dittofs-operator.namespace" .root }}
{{- end -}}

{{/* The pod, which asks again for `seconds` while it gets no answer. */}}
{{- define "dittofs-operator.reviewPod" -}}
{{- $values := .root.Values -}}
serviceAccountName: {{ include "dittofs-operator.fullname" .root }}-{{ .component }}
automountServiceAccountToken: true
restartPolicy: Never
{{- with include "dittofs-operator.pullSecrets" .root }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $values.podSecurityContext | nindent 2 }}
containers:
- name: review
  image: {{ include "dittofs-operator.image" .root }}
  imagePullPolicy: {{ include "dittofs-operator.pullPolicy" .root }}
  command: [python3, -c]
  args:
  - |
    {{- .root.Files.Get "files/review.py" | nindent 4 }}
  - /var/run/secrets/kubernetes.io/serviceaccount
  - {{ include "dittofs-operator.reviewNamespace" .root }}
  - {{ .seconds | quote }}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  securityContext:
    {{- toYaml $values.securityContext | nindent 4 }}
{{- end -}}
