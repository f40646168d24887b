// SPDX-License-Identifier: Apache-2.0
/*
 * What ThreadSanitizer is told in a worker. It does not see into the driver library, whose locks and queues order what host
 * functions do (callback.c, hook.c) behind the calls that made them.
 */
const char *__tsan_default_options(void);
const char *__tsan_default_suppressions(void);

__attribute__((visibility("default"))) const char *__tsan_default_options(void)
{
	/* Not to standard error: what the driver library writes there is passed on to the client. */
	return "log_path=build/low/race:report_thread_leaks=0:history_size=4";
}

__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
	return "called_from_lib:libsoftgpu.so\n"
	       "mutex:libsoftgpu.so\n"
	       "race:worker/callback.c\n"
	       "race:worker/hook.c\n";
}
