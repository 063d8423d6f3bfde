/* SPDX-License-Identifier: Apache-2.0 */
/* void task_switch(void **save, void *to): see task_switch.h.
 * The jump instead of a return keeps the processor's return predictor in step with the calls of each stack; notrack,
 * because the place behind a call carries no endbr64. Shadow stacks would need one for each task, so this object does
 * not claim to support them (SHSTK), and a program that holds it runs without. */

    .text
    .globl task_switch
    .type task_switch, @function
    .p2align 4
task_switch:
    .cfi_startproc
    endbr64
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    pushq %r12
    .cfi_adjust_cfa_offset 8
    pushq %r13
    .cfi_adjust_cfa_offset 8
    pushq %r14
    .cfi_adjust_cfa_offset 8
    pushq %r15
    .cfi_adjust_cfa_offset 8
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    .cfi_adjust_cfa_offset -8
    popq %r14
    .cfi_adjust_cfa_offset -8
    popq %r13
    .cfi_adjust_cfa_offset -8
    popq %r12
    .cfi_adjust_cfa_offset -8
    popq %rbx
    .cfi_adjust_cfa_offset -8
    popq %rbp
    .cfi_adjust_cfa_offset -8
    popq %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    notrack jmp *%rcx
    .cfi_endproc
    .size task_switch, . - task_switch

    .section .note.GNU-stack, "", @progbits

    /* GNU_PROPERTY_X86_FEATURE_1_AND: IBT */
    .section .note.gnu.property, "a", @note
    .p2align 3
    .long 4
    .long 16
    .long 5
    .asciz "GNU"
    .long 0xc0000002
    .long 4
    .long 1
    .long 0
