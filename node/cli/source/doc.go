// Package source turns what a developer points at, a function's folder or a
// file, into code that can be deployed: it reads covey.yaml, finds out the
// runtime where nobody says it, runs the build, and packs. `covey deploy` and
// `covey run` share it, so that what runs on a laptop is what is deployed.
//
// It talks to no cluster and leaves nothing behind but in the folder it is given
// for its output.
package source
