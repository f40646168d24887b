// SPDX-License-Identifier: Apache-2.0
/*
 * Nodes by name. The driver tells of nodes that the client has never seen; they get handles when it asks. Hidden nodes,
 * the host functions that copies of pageable memory have before or after them, are left out of every answer.
 */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

/* --- names: the driver's pointers to handles ------------------------------------------------------------------------ */

static struct { void **keys; uint64_t *values; size_t cap, used; } names;

static size_t slot_of(const void *key)
{
	size_t i = ((uintptr_t)key >> 4) * 0x9e3779b97f4a7c15ull >> 20 & (names.cap - 1);

	while (names.keys[i] && names.keys[i] != key)
		i = (i + 1) & (names.cap - 1);
	return i;
}

static uint64_t name_of(const void *key)
{
	size_t i;

	if (!names.cap)
		return 0;
	i = slot_of(key);
	return names.keys[i] ? names.values[i] : 0;
}

static bool name_grow(void)
{
	void **old = names.keys;
	uint64_t *values = names.values;
	size_t n = names.cap, cap = n ? 2 * n : 256;
	void **keys = calloc(cap, sizeof(*keys));
	uint64_t *fresh = calloc(cap, sizeof(*fresh));

	if (!keys || !fresh) {
		free(keys);
		free(fresh);
		return false;
	}
	names.keys = keys;
	names.values = fresh;
	names.cap = cap;
	for (size_t i = 0; i < n; i++) {
		size_t at;

		if (!old[i])
			continue;
		at = slot_of(old[i]);
		names.keys[at] = old[i];
		names.values[at] = values[i];
	}
	free(old);
	free(values);
	return true;
}

static bool name_set(void *key, uint64_t value)
{
	size_t i;

	if (names.used * 2 >= names.cap && !name_grow())
		return false;
	i = slot_of(key);
	names.used += !names.keys[i];
	names.keys[i] = key;
	names.values[i] = value;
	return true;
}

static void name_drop(const void *key)
{
	size_t i, next;

	if (!names.cap)
		return;
	i = slot_of(key);
	if (!names.keys[i])
		return;
	names.keys[i] = NULL;
	names.used--;
	/* What was pushed on because of it moves back. */
	for (next = (i + 1) & (names.cap - 1); names.keys[next]; next = (next + 1) & (names.cap - 1)) {
		void *key_next = names.keys[next];
		uint64_t value = names.values[next];
		size_t at;

		names.keys[next] = NULL;
		at = slot_of(key_next);
		names.keys[at] = key_next;
		names.values[at] = value;
	}
}

static int enter(struct worker *w, uint64_t handle, enum vgpu_handle_type type, void *object, uint64_t parent)
{
	int err = worker_handle_add(w, handle, type, object);
	struct handle *e = err ? NULL : object_find(w, handle, type);

	if (!e)
		return err ? err : IDM_ERROR_INVALID_HANDLE;
	e->parent = parent;
	if (name_set(object, handle))
		return 0;
	handle_remove(&w->handles, e);
	return IDM_ERROR_OUT_OF_MEMORY;
}

int graph_enter_node(struct worker *w, uint64_t handle, CUgraphNode node, uint64_t graph)
{
	return enter(w, handle, VGPU_H_GRAPHNODE, node, graph);
}

static char below;	/* aux of nodes that have graphs below them */

static void mark_owner(struct worker *w, uint64_t node)
{
	struct handle *e = handle_find(&w->handles, node, VGPU_H_GRAPHNODE);

	if (e)
		e->aux = &below;
}

int graph_enter_graph(struct worker *w, uint64_t handle, CUgraph graph, uint64_t node)
{
	mark_owner(w, node);
	return enter(w, handle, VGPU_H_GRAPH, graph, node);
}

static uint64_t name(struct worker *w, void *object, enum vgpu_handle_type type, uint64_t parent, struct fresh *f)
{
	uint64_t h = name_of(object);

	if (h || f->used >= f->n)
		return h;
	h = f->handles[f->used];
	if (worker_handle_free(w, h, type) || enter(w, h, type, object, parent))
		return 0;
	f->used++;
	return h;
}

uint64_t graph_name_node(struct worker *w, CUgraphNode node, uint64_t parent, struct fresh *f)
{
	return name(w, node, VGPU_H_GRAPHNODE, parent, f);
}

uint64_t graph_name_graph(struct worker *w, CUgraph graph, uint64_t parent, struct fresh *f)
{
	mark_owner(w, parent);
	return name(w, graph, VGPU_H_GRAPH, parent, f);
}

uint64_t graph_known(CUgraph graph)
{
	return name_of(graph);
}

uint64_t graph_node_known(CUgraphNode node)
{
	return name_of(node);
}

void graph_moved(struct worker *w, uint64_t graph, uint64_t node)
{
	struct handle *e = handle_find(&w->handles, graph, VGPU_H_GRAPH);

	if (!e)
		return;
	e->parent = node;
	mark_owner(w, node);
}

uint64_t graph_of_node(struct worker *w, uint64_t handle)
{
	struct handle *e = handle_find(&w->handles, handle, VGPU_H_GRAPHNODE);

	return e ? e->parent : 0;
}

/* Everything whose chain of parents leads to @handle, which itself stays. */
static void forget_below(struct worker *w, uint64_t handle)
{
	for (uint32_t i = 0; i < w->handles.cap; i++) {
		struct handle *e = &w->handles.slots[i];
		unsigned int type = VGPU_HANDLE_TYPE(e->value);
		uint64_t value = e->value;
		bool has_graphs = e->aux;

		if (!value || e->parent != handle || (type != VGPU_H_GRAPHNODE && type != VGPU_H_GRAPH))
			continue;
		name_drop(e->object);
		handle_remove(&w->handles, e);
		hook_forget_holds(value, 0);
		/* Plain nodes have nothing below them, and are by far the most. */
		if (type == VGPU_H_GRAPH || has_graphs)
			forget_below(w, value);
	}
}

void graph_forget(struct worker *w, uint64_t handle)
{
	struct handle *e = handle_find(&w->handles, handle, VGPU_H_GRAPH);

	forget_below(w, handle);
	hook_forget_holds(handle, 0);
	if (e) {
		name_drop(e->object);
		handle_remove(&w->handles, e);
	}
}

void graph_forget_node(struct worker *w, uint64_t handle)
{
	struct handle *e = handle_find(&w->handles, handle, VGPU_H_GRAPHNODE);

	if (!e)
		return;
	hook_forget_holds(handle, 0);
	if (e->aux)
		forget_below(w, handle);
	name_drop(e->object);
	handle_remove(&w->handles, e);
}

/* --- hidden nodes --------------------------------------------------------------------------------------------------- */

static enum vgpu_hook hidden_kind(CUgraphNode n)
{
	CUDA_HOST_NODE_PARAMS p = { 0 };
	const struct hook *h;
	CUgraphNodeType type;

	if (D.cuGraphNodeGetType(n, &type) != CUDA_SUCCESS || type != CU_GRAPH_NODE_TYPE_HOST ||
	    D.cuGraphHostNodeGetParams(n, &p) != CUDA_SUCCESS)
		return VGPU_HOOK_PLAIN;
	h = hook_of(p.fn, p.userData);
	return h ? hook_kind(h) : VGPU_HOOK_PLAIN;
}

static CUgraphNode only(CUgraphNode n, bool after)
{
	CUgraphEdgeData data[2];
	CUgraphNode nodes[2] = { 0 };
	size_t count = 2;
	CUresult r = after ? D.cuGraphNodeGetDependentNodes_v2(n, nodes, data, &count) :
			     D.cuGraphNodeGetDependencies_v2(n, nodes, data, &count);

	return r == CUDA_SUCCESS && count ? nodes[0] : NULL;
}

CUgraphNode graph_visible(CUgraphNode n)
{
	enum vgpu_hook kind = hidden_kind(n);
	CUgraphNode other = kind == VGPU_HOOK_PLAIN ? NULL : only(n, kind == VGPU_HOOK_BEFORE);

	return other ? other : n;
}

CUgraphNode graph_hidden(CUgraphNode n, bool after)
{
	CUgraphEdgeData data[16];
	CUgraphNode nodes[16];
	CUgraphNodeType type;
	size_t count = 16;

	/* Only copies have one; before a copy it is the one dependency, after it any of those that depend on it. */
	if (D.cuGraphNodeGetType(n, &type) != CUDA_SUCCESS || type != CU_GRAPH_NODE_TYPE_MEMCPY)
		return NULL;
	if (!after) {
		nodes[0] = only(n, false);
		return nodes[0] && hidden_kind(nodes[0]) == VGPU_HOOK_BEFORE ? nodes[0] : NULL;
	}
	if (D.cuGraphNodeGetDependentNodes_v2(n, nodes, data, &count) != CUDA_SUCCESS)
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (hidden_kind(nodes[i]) == VGPU_HOOK_AFTER)
			return nodes[i];
	return NULL;
}

CUgraphNode *graph_nodes(struct worker *w, const uint64_t *handles, size_t n, bool after, int *err)
{
	CUgraphNode *nodes = malloc((n + 1) * sizeof(*nodes)), hidden;

	*err = nodes ? 0 : IDM_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; nodes && i < n; i++) {
		nodes[i] = worker_handle(w, handles[i], VGPU_H_GRAPHNODE);
		if (!nodes[i]) {
			free(nodes);
			*err = IDM_ERROR_INVALID_HANDLE;
			return NULL;
		}
		/* What comes after a node comes after the hidden one, too; what comes before, before it. */
		hidden = graph_hidden(nodes[i], after);
		if (hidden)
			nodes[i] = hidden;
	}
	return nodes;
}

/* --- lists ---------------------------------------------------------------------------------------------------------- */

struct list {
	CUgraphNode *nodes, *to;
	CUgraphEdgeData *data;
	size_t n;
};

static void list_free(struct list *l)
{
	free(l->nodes);
	free(l->to);
	free(l->data);
}

/* The driver's answer, of whatever length. */
static CUresult list_get(struct list *l, uint32_t what, CUgraph graph, CUgraphNode node)
{
	for (;;) {
		size_t room = l->n, n = room;
		CUresult r;

		switch (what) {
		case VGPU_LIST_NODES:
			r = D.cuGraphGetNodes(graph, l->nodes, &n);
			break;
		case VGPU_LIST_ROOTS:
			r = D.cuGraphGetRootNodes(graph, l->nodes, &n);
			break;
		case VGPU_LIST_EDGES:
			r = D.cuGraphGetEdges_v2(graph, l->nodes, l->to, l->data, &n);
			break;
		case VGPU_LIST_BEFORE:
			r = D.cuGraphNodeGetDependencies_v2(node, l->nodes, l->data, &n);
			break;
		default:
			r = D.cuGraphNodeGetDependentNodes_v2(node, l->nodes, l->data, &n);
		}
		if (r != CUDA_SUCCESS || l->nodes) {
			l->n = n;
			return r;
		}
		l->nodes = calloc(n + 1, sizeof(*l->nodes));
		l->to = calloc(n + 1, sizeof(*l->to));
		l->data = calloc(n + 1, sizeof(*l->data));
		l->n = n;
		if (!l->nodes || !l->to || !l->data)
			return CUDA_ERROR_OUT_OF_MEMORY;
		if (!n)
			return CUDA_SUCCESS;
	}
}

/* Hidden nodes out of the list. */
static void list_clean(struct list *l, uint32_t what)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->n; i++) {
		CUgraphNode from = l->nodes[i], to = l->to[i];
		enum vgpu_hook kind = hidden_kind(from);

		if (what == VGPU_LIST_NODES && kind != VGPU_HOOK_PLAIN)
			continue;
		if (kind != VGPU_HOOK_PLAIN)
			from = graph_visible(from);
		if (what == VGPU_LIST_EDGES)
			to = graph_visible(to);
		if (from == to)
			continue;
		l->nodes[kept] = from;
		l->to[kept] = to;
		l->data[kept++] = l->data[i];
	}
	l->n = kept;
}

static CUresult list_all(struct list *l, uint32_t what, CUgraph graph, CUgraphNode node)
{
	CUgraphNode hidden = node ? graph_hidden(node, what == VGPU_LIST_AFTER) : NULL;
	CUresult r = list_get(l, what, graph, hidden ? hidden : node);

	if (r == CUDA_SUCCESS)
		list_clean(l, what);
	return r;
}

static uint32_t type_of(CUgraphNode n)
{
	CUgraphNodeType type = 0;

	D.cuGraphNodeGetType(n, &type);
	return type;
}

static bool entry(struct worker *w, struct vgpu_graph_entry *e, const struct list *l, size_t i, uint64_t graph,
		  struct fresh *f)
{
	memset(e, 0, sizeof(*e));
	e->node = graph_name_node(w, l->nodes[i], graph, f);
	e->type = type_of(l->nodes[i]);
	if (l->to && l->to[i]) {
		e->to = graph_name_node(w, l->to[i], graph, f);
		e->to_type = type_of(l->to[i]);
	}
	if (l->data)
		memcpy(e->edge, &l->data[i], sizeof(e->edge));
	return e->node && (!l->to || !l->to[i] || e->to);
}

void worker_hand_graph_list(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_graph_list_request *q = m->payload;
	struct vgpu_graph_list_reply *rp = NULL;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	struct list l = { 0 };
	struct fresh f = { 0 };
	CUgraphNode node = NULL, found;
	uint64_t graph_handle;
	void *graph = NULL;
	size_t n = 0;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	/* An edge has two ends that may need names. */
	if (q->room > VGPU_GRAPH_ROOM_MAX || !payload_ends(m, sizeof(*q), 2ull * q->room * sizeof(uint64_t))) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	f.handles = (const uint64_t *)(q + 1);
	f.n = 2 * q->room;
	err = worker_enter(w, &q->call);
	if (err || !D.cuGraphNodeGetDependencies_v2 || !D.cuGraphNodeGetDependentNodes_v2 || !D.cuGraphGetEdges_v2)
		goto out;
	err = IDM_ERROR_INVALID_HANDLE;
	graph_handle = q->handle;
	if (q->what == VGPU_LIST_BEFORE || q->what == VGPU_LIST_AFTER) {
		node = worker_handle(w, q->handle, VGPU_H_GRAPHNODE);
		graph_handle = graph_of_node(w, q->handle);
		if (!node)
			goto out;
	} else {
		graph = worker_handle(w, q->handle, VGPU_H_GRAPH);
		if (!graph)
			goto out;
	}
	if (q->what == VGPU_LIST_IN_CLONE) {
		node = worker_handle(w, q->node, VGPU_H_GRAPHNODE);
		if (!node)
			goto out;
	}
	err = 0;
	rp = calloc(1, sizeof(*rp) + q->room * sizeof(rp->entries[0]));
	if (!rp) {
		err = IDM_ERROR_OUT_OF_MEMORY;
		goto out;
	}
	if (q->what == VGPU_LIST_IN_CLONE) {
		r = D.cuGraphNodeFindInClone(&found, node, graph);
		l = (struct list){ &found, NULL, NULL, r == CUDA_SUCCESS };
	} else {
		r = list_all(&l, q->what, graph, node);
	}
	rp->total = l.n;
	for (size_t i = q->first; r == CUDA_SUCCESS && i < l.n && n < q->room; i++, n++) {
		if (!entry(w, &rp->entries[n], &l, i, graph_handle, &f)) {
			r = CUDA_ERROR_OUT_OF_MEMORY;
			break;
		}
	}
	if (q->what != VGPU_LIST_IN_CLONE)
		list_free(&l);
out:
	worker_reply(w, &m->header, &q->call, err, r, rp, rp ? sizeof(*rp) + n * sizeof(rp->entries[0]) : 0);
	free(rp);
}

void worker_hand_graph_edges(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_graph_edges *q = m->payload;
	CUgraphNode *from = NULL, *to = NULL;
	const uint64_t *handles;
	const CUgraphEdgeData *data;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	void *graph;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	if (!payload_ends(m, sizeof(*q), 24ull * q->n)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	handles = (const uint64_t *)(q + 1);
	data = (const CUgraphEdgeData *)(handles + 2ull * q->n);
	err = worker_enter(w, &q->call);
	graph = err ? NULL : worker_handle(w, q->graph, VGPU_H_GRAPH);
	if (!err && !graph)
		err = IDM_ERROR_INVALID_HANDLE;
	if (!err)
		from = graph_nodes(w, handles, q->n, true, &err);
	if (!err)
		to = graph_nodes(w, handles + q->n, q->n, false, &err);
	if (!err && q->remove && D.cuGraphRemoveDependencies_v2)
		r = D.cuGraphRemoveDependencies_v2(graph, from, to, data, q->n);
	else if (!err && !q->remove && D.cuGraphAddDependencies_v2)
		r = D.cuGraphAddDependencies_v2(graph, from, to, data, q->n);
	free(from);
	free(to);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}

/* --- capture: its graph, and what the next operation depends on ----------------------------------------------------- */

void worker_hand_capture_info(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_capture_info *q = m->payload;
	struct vgpu_capture_info_reply *rp = NULL;
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	const CUgraphEdgeData *data = NULL;
	const CUgraphNode *nodes = NULL;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	struct fresh graph_fresh, f;
	struct list l = { 0 };
	CUgraph graph = NULL;
	cuuint64_t id = 0;
	struct wstream *s;
	size_t n = 0, out = 0;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	if (q->room > VGPU_GRAPH_ROOM_MAX || !payload_ends(m, sizeof(*q), q->room * sizeof(uint64_t))) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	graph_fresh = (struct fresh){ .handles = &q->fresh, .n = 1 };
	f = (struct fresh){ .handles = (const uint64_t *)(q + 1), .n = q->room };
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->stream, &s);
	rp = calloc(1, sizeof(*rp) + q->room * sizeof(rp->entries[0]));
	if (!rp)
		err = IDM_ERROR_OUT_OF_MEMORY;
	if (!err && D.cuStreamGetCaptureInfo_v3)
		r = D.cuStreamGetCaptureInfo_v3(s->real, &status, &id, &graph, &nodes, &data, &n);
	if (err || r != CUDA_SUCCESS)
		goto out;
	rp->status = status;
	rp->id = id;
	if (status != CU_STREAM_CAPTURE_STATUS_ACTIVE || !graph)
		goto out;
	rp->graph = graph_name_graph(w, graph, 0, &graph_fresh);
	rp->total = n;
	l.data = calloc(n + 1, sizeof(*l.data));
	l.nodes = calloc(n + 1, sizeof(*l.nodes));
	if (!rp->graph || !l.data || !l.nodes)
		r = CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; r == CUDA_SUCCESS && i < n && i < q->room; i++, out++) {
		l.nodes[i] = graph_visible(nodes[i]);
		if (data)
			l.data[i] = data[i];
		if (!entry(w, &rp->entries[i], &l, i, rp->graph, &f))
			r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	free(l.data);
	free(l.nodes);
out:
	worker_reply(w, &m->header, &q->call, err, r, rp, rp ? sizeof(*rp) + out * sizeof(rp->entries[0]) : 0);
	free(rp);
}

void worker_hand_capture_update(struct worker *w, const struct idm_message *m)
{
	const struct vgpu_capture_update *q = m->payload;
	CUresult r = CUDA_ERROR_NOT_SUPPORTED;
	CUgraphNode *nodes = NULL;
	const uint64_t *handles;
	struct wstream *s;
	int err;

	if (!payload_has(w, m, sizeof(*q)))
		return;
	if (!payload_ends(m, sizeof(*q), 16ull * q->n)) {
		worker_reply(w, &m->header, NULL, IDM_ERROR_INVALID_MESSAGE, 0, NULL, 0);
		return;
	}
	handles = (const uint64_t *)(q + 1);
	err = worker_enter(w, &q->call);
	if (!err)
		err = stream_of(w, &q->call, q->stream, &s);
	if (!err)
		nodes = graph_nodes(w, handles, q->n, true, &err);
	if (!err && D.cuStreamUpdateCaptureDependencies_v2)
		r = D.cuStreamUpdateCaptureDependencies_v2(s->real, nodes, (const CUgraphEdgeData *)(handles + q->n), q->n,
							   q->flags);
	free(nodes);
	worker_reply(w, &m->header, &q->call, err, r, NULL, 0);
}
