#!/bin/sh
#PBS -l select=1:vnode=sys03[0]:ncpus=2+1:vnode=sys03[1]:ncpus=2+host=sys04:ncpus=1
#PBS -l place=free:shared
pbs_attach ./pinned
