// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// Conf returns options of a snap by the dotted keys asked for, or all of them;
// "system" has the system's settings.
func (c *Client) Conf(ctx context.Context, name string, keys []string) (map[string]json.RawMessage, error) {
	q := url.Values{}
	if len(keys) > 0 {
		q.Set("keys", strings.Join(keys, ","))
	}
	var out map[string]json.RawMessage
	err := c.get(ctx, snapPath(name)+"/conf", q, &out)
	return out, err
}

// SetConf sets options of a snap by dotted key; nil unsets.
func (c *Client) SetConf(ctx context.Context, name string, values map[string]any) (changeID string, err error) {
	return c.async(c.do(ctx, request{method: http.MethodPut, path: snapPath(name) + "/conf", value: values}, nil))
}
