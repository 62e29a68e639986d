// SPDX-License-Identifier: Apache-2.0

package main

import "endured/client"

// tellRecord says in a paragraph what runs now after a refresh.
func (a *app) tellRecord(ch *client.Change) {}
