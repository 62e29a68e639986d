// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"endured/overlord/snapstate"
)

// confFailure is failure with snapd's words for a snap that is not there.
func confFailure(err error) *response {
	var missing *snapstate.NotInstalledError
	if errors.As(err, &missing) {
		return notFound(missing.Snap, fmt.Sprintf("snap %q is not installed", missing.Snap))
	}
	return failure(err)
}

// getConf answers with an object keyed by the dotted keys asked for, or with
// everything that is set.
func getConf(c *call) *response {
	conf, err := c.d.backend.Configuration(c.PathValue("name"), commaList(c.URL.Query().Get("keys")))
	if err != nil {
		return confFailure(err)
	}
	return sync200(conf)
}

// putConf sets values by dotted key; null unsets.
func putConf(c *call) *response {
	var raw json.RawMessage
	if resp := decodeBody(c, &raw); resp != nil {
		return resp
	}
	var values map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // a number stays what it was
	if err := d.Decode(&values); err != nil {
		return badRequest("cannot read the request as JSON: %v", err)
	}
	if len(values) == 0 {
		return badRequest("cannot set options: none is named")
	}
	id, err := c.d.backend.Configure(c.Context(), c.PathValue("name"), values)
	if err != nil {
		return confFailure(err)
	}
	return async(id, nil)
}
