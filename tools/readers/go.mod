module oci-sync/readers

go 1.25.7

require github.com/twmb/franz-go v1.22.3
