// The stand-in for DittoFS in the end-to-end test, and the pause program that holds a pod together.
module dittofs.com/operator/standin

go 1.26.0

require go.yaml.in/yaml/v3 v3.0.4
