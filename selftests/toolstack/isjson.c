// SPDX-License-Identifier: Apache-2.0
/*
 * Is it one JSON object, and has it these keys? For dom0 in the lab, which has no other program that could tell.
 *
 *	COMMAND | isjson KEY...
 */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	static char text[1 << 20];
	struct json_tokener *parser = json_tokener_new();
	size_t len = fread(text, 1, sizeof(text) - 1, stdin);
	struct json_object *o;
	size_t end;

	fputs(text, stdout);
	json_tokener_set_flags(parser, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	o = json_tokener_parse_ex(parser, text, (int)len);
	end = json_tokener_get_parse_end(parser);
	if (!o || !json_object_is_type(o, json_type_object) || text[end + strspn(text + end, " \n")]) {
		printf("not one JSON object: %s\n", json_tokener_error_desc(json_tokener_get_error(parser)));
		return 1;
	}
	for (int i = 1; i < argc; i++)
		if (!json_object_object_get_ex(o, argv[i], NULL)) {
			printf("it has no %s\n", argv[i]);
			return 1;
		}
	json_object_put(o);
	json_tokener_free(parser);
	return 0;
}
